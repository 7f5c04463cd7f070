//! A process that polls and serves until it is told to stop: `serve` and `demo`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::config::{CacheConfig, Config, ConfigErrors, Source};
use crate::events;
use crate::exit::ExitStatus;
use crate::hotkeys;
use crate::metrics::OwnMetrics;
use crate::poll::{FleetPoller, wall_unix_seconds};
use crate::publish::Publisher;
use crate::serve::{self, ReloadRequest, ServeState};
use crate::state::{self, Keeper};

/// Requests to reload that may wait; more are refused by the server.
const RELOADS_MAX: usize = 4;

/// Polls and serves. `reconfigure` reads the configuration anew, at SIGHUP and when asked over HTTP (where
/// `lifecycle` allows that). SIGTERM and SIGINT end it in good order.
pub(super) async fn run(
    config: Config,
    lifecycle: bool,
    notice: Option<String>,
    reconfigure: impl Fn() -> Result<Config, ConfigErrors>,
) -> Result<ExitStatus, AppError> {
    raise_descriptor_limit(&config);
    // Bound before anything is polled: an address in use must not cost the fleet a round.
    let address = config.listen;
    let listener = listen(address).map_err(|source| AppError::Listen { address, source })?;
    let (mut hangup, mut terminate, mut interrupt) = (
        signal(SignalKind::hangup()).map_err(AppError::Signals)?,
        signal(SignalKind::terminate()).map_err(AppError::Signals)?,
        signal(SignalKind::interrupt()).map_err(AppError::Signals)?,
    );
    let (publisher, own) = (Arc::new(Publisher::default()), Arc::new(OwnMetrics::new(wall_unix_seconds())?));
    let redis_metrics = Arc::new(ArcSwap::from_pointee(config.redis_metrics));
    let (ask, mut asked) = mpsc::channel::<ReloadRequest>(RELOADS_MAX);
    let serve_state = ServeState {
        publisher: Arc::clone(&publisher),
        own: Arc::clone(&own),
        redis_metrics: Arc::clone(&redis_metrics),
        reload: lifecycle.then_some(ask),
        notice,
    };
    let stop = CancellationToken::new();
    let state_file = config.state_file.clone();
    let saved = state_file.as_deref().and_then(|path| state::resume(path, wall_unix_seconds()));
    let mut poller = FleetPoller::resume(&config, Arc::clone(&publisher), &stop, saved);
    let keeper = state_file.clone().map(|path| {
        let memory = poller.memory();
        Keeper::start(path, Arc::clone(&memory.moved), move || memory.export())
    });
    let (sampling, configs) = watch::channel(Arc::new(config));
    tokio::spawn(stop.clone().run_until_cancelled_owned(hotkeys::run(
        configs,
        publisher,
        poller.hot_keys(),
        poller.directory(),
    )));
    events::serving(listener.local_addr().unwrap_or(address));
    // A task, so that connections are accepted where they are served: this future runs on a thread of its own.
    let server = tokio::spawn(serve::serve(listener, serve::router(serve_state), stop.clone().cancelled_owned()));
    let mut server = std::pin::pin!(async { server.await? });
    let reload = |poller: &mut FleetPoller| match reconfigure() {
        Ok(next) => {
            if next.listen != address {
                events::listen_needs_restart(next.listen);
            }
            if next.state_file != state_file {
                events::state_file_needs_restart();
            }
            poller.apply(&next);
            redis_metrics.store(Arc::new(next.redis_metrics));
            own.reload_succeeded(wall_unix_seconds());
            events::reloaded(next.caches.len());
            sampling.send_replace(Arc::new(next));
            Ok(())
        }
        Err(errors) => {
            own.reload_failed();
            events::reload_refused(&errors);
            Err(errors.to_string())
        }
    };
    loop {
        tokio::select! {
            served = &mut server => return served.map(|()| ExitStatus::Fine).map_err(AppError::Serve),
            _ = hangup.recv() => {
                // Its outcome has been logged and counted.
                reload(&mut poller).unwrap_or_default();
            }
            Some(request) = asked.recv() => {
                // Whoever asked may have gone.
                request.send(reload(&mut poller)).unwrap_or_default();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    events::stopping();
    stop.cancel();
    let polled = async {
        poller.stop().await;
        if let Some(keeper) = keeper {
            keeper.finish().await;
        }
    };
    let (served, ()) = tokio::join!(server, polled);
    served.map(|()| ExitStatus::Fine).map_err(AppError::Serve)
}

/// Connections that may wait to be accepted: more than are let in at a time. The standard library's 128 overflow in a burst,
/// and who comes then believes to be connected, and waits.
const BACKLOG: u32 = 1024;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library does: a restart finds connections of the process before it on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Descriptors beside those of the nodes: clients of ours, files, the runtime's own.
const DESCRIPTORS_BESIDE: u64 = 1000;

/// Takes as many open files as the system lets us have, and says so if they are too few for the fleet.
fn raise_descriptor_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    // Raising it within the hard limit is always allowed; where it is not, the lower one is told below.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap_or_default();
    // Those that are listed; how many will be discovered nobody knows yet.
    let listed = |cache: &CacheConfig| if let Source::Nodes(nodes) = &cache.source { nodes.len() } else { 0 };
    let nodes: usize = config.caches.iter().map(|cache| listed(cache)).sum();
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < nodes as u64 + DESCRIPTORS_BESIDE
    {
        events::few_descriptors(limit, nodes);
    }
}
