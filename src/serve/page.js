// Keeps the status page up to date. The server renders the whole page, at any address this script asks for; here the
// new page is laid over the old one, so that focus, scroll position and selection stay where they are. Nothing is
// built from data in this file: text comes escaped from the server and is parsed as the page itself was.
'use strict';

const EVERY_MS = 2000;
// Longer than a slow answer, shorter than a reader's patience.
const ANSWER_MS_MAX = 8000;
const TYPING_MS = 200;

const root = document.documentElement;

// Storage may be forbidden; the choice then lasts as long as the page.
const remembered = {
  get() { try { return localStorage.getItem('theme'); } catch { return null; } },
  set(theme) { try { localStorage.setItem('theme', theme); } catch { /* see above */ } },
};

// At once: this script stands before the body, so nothing is painted in the wrong colours.
const theme = remembered.get();
if (theme === 'dark' || theme === 'light') root.dataset.theme = theme;

document.addEventListener('DOMContentLoaded', () => {
  const [main, live, stale, news, pause, dark] =
    ['main', 'live', 'stale', 'news', 'pause', 'theme'].map((id) => document.getElementById(id));
  let paused = false;
  let asked = 0;
  let lastAnswer = main.dataset.time;

  // ---- colours
  const prefersDark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? 'dark' : 'light')) === 'dark';
  const showTheme = () => dark.setAttribute('aria-pressed', String(isDark()));
  dark.addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    remembered.set(root.dataset.theme);
    showTheme();
  });
  prefersDark.addEventListener('change', showTheme);

  // ---- what the head of the page says about its age
  const say = (state, text) => {
    root.dataset.live = state;
    if (live.textContent !== text) live.textContent = text;
  };
  const showAge = () => (paused ? say('paused', `Paused at ${lastAnswer}`) : say('live', `Live, ${lastAnswer}`));

  const answered = () => {
    lastAnswer = main.dataset.time;
    showAge();
    if (!stale.hidden) {
      stale.hidden = true;
      news.textContent = 'The exporter answers again.';
    }
  };

  const unanswered = () => {
    say('stale', 'No answer');
    if (!stale.hidden) return;
    stale.textContent = `No answer from the exporter since ${lastAnswer}. What stands below is from then. Trying again.`;
    stale.hidden = false;
    news.textContent = stale.textContent;
  };

  // ---- bringing the page up to date
  const refresh = async () => {
    const mine = ++asked;
    try {
      const answer = await fetch(location.href, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      if (!answer.ok) throw new Error(answer.statusText);
      const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
      // Someone has sorted or filtered meanwhile: the answer to that is under way.
      if (mine !== asked) return;
      const nextMain = next.getElementById('main');
      if (!nextMain) throw new Error('not our page');
      // The exporter was replaced by another release: its page needs its own script and style.
      if (next.documentElement.dataset.release !== root.dataset.release) return location.reload();
      const toldBefore = main.dataset.news;
      const focused = document.activeElement;
      lay(nextMain, main);
      // Moving an element takes the focus from it.
      if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
      document.title = next.title;
      answered();
      if (main.dataset.news !== toldBefore) news.textContent = main.dataset.news;
    } catch {
      if (mine === asked) unanswered();
    }
  };

  // One look after the other, never two at once; none while nobody looks.
  const keepUp = async () => {
    if (!paused && !document.hidden) await refresh();
    setTimeout(keepUp, EVERY_MS);
  };

  const go = (address) => {
    history.replaceState(null, '', address);
    return refresh();
  };

  document.addEventListener('visibilitychange', () => { if (!document.hidden && !paused) refresh(); });

  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    showAge();
    if (!paused) refresh();
  });

  // ---- order, filter, opened tables: plain links and a plain form, answered in place
  main.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-live]');
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (!link || !plain) return;
    event.preventDefault();
    go(link.href);
  });

  // The form comes and goes with the size of the fleet, so it is listened to from above.
  let typing;
  const find = (form) => {
    clearTimeout(typing);
    const address = new URL(location.href);
    const wanted = form.elements.q.value.trim();
    if (wanted) address.searchParams.set('q', wanted);
    else address.searchParams.delete('q');
    if (address.href !== location.href) go(address);
  };
  main.addEventListener('input', ({ target }) => {
    clearTimeout(typing);
    if (target.name === 'q') typing = setTimeout(find, TYPING_MS, target.form);
  });
  main.addEventListener('submit', (event) => {
    event.preventDefault();
    find(event.target);
  });

  pause.hidden = dark.hidden = false;
  showTheme();
  showAge();
  setTimeout(keepUp, EVERY_MS);
});

// Makes `old` like `next`, touching only what differs. Children with a `data-key` are found again wherever they have
// moved; of all others the next of the same kind is taken. One pass, whatever the number of rows.
function lay(next, old) {
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);

  const keyOf = (node) => node.dataset?.key;
  const keysWanted = new Set(Array.from(next.children, keyOf));
  const keyed = new Map();
  const loose = [];
  for (const child of [...old.childNodes]) {
    const key = keyOf(child);
    if (key === undefined) loose.push(child);
    else if (keysWanted.has(key)) keyed.set(key, child);
    else child.remove();
  }

  let place = old.firstChild;
  const drop = (node) => {
    if (node === place) place = node.nextSibling;
    node.remove();
  };
  for (const wanted of [...next.childNodes]) {
    const key = keyOf(wanted);
    let found = keyed.get(key);
    if (key === undefined) {
      const at = loose.findIndex((child) => child.nodeName === wanted.nodeName);
      if (at >= 0) {
        const passed = loose.splice(0, at + 1);
        found = passed.pop();
        passed.forEach(drop);
      }
    }
    if (!found) {
      old.insertBefore(document.adoptNode(wanted), place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    if (found.nodeType === Node.ELEMENT_NODE) lay(wanted, found);
    else if (found.data !== wanted.data) found.data = wanted.data;
  }
  loose.forEach(drop);
}
