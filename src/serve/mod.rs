//! HTTP: what is published, as bytes. Serving never polls: every answer comes from the last snapshot.

mod api;
mod exposition;
mod guard;
mod page;
mod sd;

use std::future::{Future, pending};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use hyper_util::rt::TokioTimer;
use tokio::sync::{mpsc, oneshot};

use crate::config::RedisMetrics;
use crate::metrics::{Encoder, OwnMetrics};
use crate::publish::Publisher;

/// How long a client may take to send its request's head; closes idle connections, too.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// From here on no more of a request's head is read. What was read last may be as much again: no head of more than twice
/// this size is taken.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long answers under way may take after the shutdown began.
const DRAIN_DEADLINE: Duration = Duration::from_millis(1500);

/// A wish to reload the configuration, and where its outcome goes: the error as text for people,
/// without secrets.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What the server serves from.
#[derive(Debug, Clone)]
pub struct ServeState {
    /// Where the snapshots are.
    pub publisher: Arc<Publisher>,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
    /// Which `redis_*` families `/metrics` carries; a reload may change it.
    pub redis_metrics: Arc<ArcSwap<RedisMetrics>>,
    /// Takes requests to reload; `None` where the lifecycle endpoints are disabled.
    pub reload: Option<mpsc::Sender<ReloadRequest>>,
    /// Shown on top of the page.
    pub notice: Option<String>,
}

/// What the handlers share.
#[derive(Debug)]
struct App {
    publisher: Arc<Publisher>,
    encoder: Arc<Encoder>,
    reload: Option<mpsc::Sender<ReloadRequest>>,
    notice: Option<String>,
}

/// Every path, with the headers that all answers carry.
pub fn router(state: ServeState) -> Router {
    let ServeState { publisher, own, redis_metrics, reload, notice } = state;
    let encoder = Arc::new(Encoder::new(Arc::clone(&publisher), own, redis_metrics));
    Router::new()
        .route("/", get(page::page))
        .route(page::STYLE_PATH, get(page::style))
        .route(page::SCRIPT_PATH, get(page::script))
        .route(page::ICON_PATH, get(page::icon))
        // Browsers ask for it beside every other path, /metrics for one, and complain of a 404.
        .route("/favicon.ico", get(page::icon))
        .route("/metrics", get(exposition::metrics))
        .route("/scrape", get(exposition::scrape))
        .route("/sd", get(api::targets))
        .route("/api/v1/report", get(api::report))
        .route("/api/v1/episodes", get(api::episodes))
        .route("/api/v1/hotkeys", get(api::hotkeys))
        .route("/-/healthy", get(api::healthy))
        .route("/-/ready", get(api::ready))
        .route("/-/reload", post(api::reload))
        .layer(map_response(with_common_headers))
        .with_state(Arc::new(App { publisher, encoder, reload, notice }))
}

const COMMON_HEADERS: [(HeaderName, &str); 5] = [
    // Answers are of the moment, and name hosts.
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

async fn with_common_headers(mut response: Response) -> Response {
    for (name, value) in COMMON_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Serves until `shutdown` completes, then lets answers under way finish for at most 1.5 s.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let handle = axum_server::Handle::new();
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(guard::Guard::new())
        .http1_only()
        .first_request_timeout(HEADER_READ_TIMEOUT)
        .handle(handle.clone());
    let mut http = server.http_builder().http1();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let stop = async {
        shutdown.await;
        handle.graceful_shutdown(Some(DRAIN_DEADLINE));
        pending::<()>().await;
    };
    tokio::select! {
        served = server.serve(router.into_make_service()) => served,
        () = stop => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::model::CacheName;
    use crate::publish::fixture;
    use crate::report::{Episodes, Report};

    fn state() -> ServeState {
        ServeState {
            publisher: Arc::new(fixture::publisher()),
            own: Arc::new(OwnMetrics::new(1.0).unwrap()),
            redis_metrics: Arc::new(ArcSwap::from_pointee(RedisMetrics::Core)),
            reload: None,
            notice: Some("a <demo> fleet".to_owned()),
        }
    }

    struct Answer {
        status: StatusCode,
        headers: axum::http::HeaderMap,
        body: Vec<u8>,
    }

    impl Answer {
        fn text(&self) -> &str {
            std::str::from_utf8(&self.body).unwrap()
        }

        fn header(&self, name: HeaderName) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().unwrap())
        }
    }

    async fn ask(router: Router, request: Request<Body>) -> Answer {
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(state: ServeState, path: &str) -> Answer {
        ask(router(state), Request::get(path).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn metrics_are_compressed_only_when_asked() {
        let plain = get(state(), "/metrics").await;
        assert_eq!(plain.header(header::CONTENT_TYPE), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(plain.header(header::CONTENT_ENCODING), "");
        assert!(plain.text().contains("cache_storm_severity{cache=\"sessions\"} 2\n"));
        let request = Request::get("/metrics").header(header::ACCEPT_ENCODING, "br, gzip;q=0.8");
        let gzip = ask(router(state()), request.body(Body::empty()).unwrap()).await;
        assert_eq!(gzip.header(header::CONTENT_ENCODING), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*gzip.body).read_to_string(&mut text).unwrap();
        assert!(text.contains("# TYPE redis_commands_processed_total counter\n"));
    }

    #[tokio::test]
    async fn ready_only_after_a_round_of_every_cache() {
        let state = state();
        assert_eq!(get(state.clone(), "/-/healthy").await.status, StatusCode::OK);
        let waiting = get(state.clone(), "/-/ready").await;
        assert_eq!(
            (waiting.status, waiting.text()),
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first round of: catalog\n")
        );
        state.publisher.publish(fixture::cache("catalog"));
        assert_eq!(get(state, "/-/ready").await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_target_is_unknown_only_after_a_round_of_every_cache() {
        let state = state();
        let scrape = async |target: &str| get(state.clone(), &format!("/scrape?target={target}")).await;
        assert_eq!(scrape("REDIS://10.0.0.1:6379").await.status, StatusCode::OK);
        let early = scrape("10.0.0.9:6379").await;
        assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(early.text().ends_with("waiting for the first round of catalog\n"), "{}", early.text());
        assert_eq!(scrape("http://10.0.0.9:6379").await.status, StatusCode::NOT_FOUND, "never will be one");
        state.publisher.publish(fixture::cache("catalog"));
        assert_eq!(scrape("10.0.0.9:6379").await.status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_node_of_two_caches_is_shown_by_the_one_that_reaches_it() {
        let state = state();
        // Before `sessions` by name, and without the right password.
        let mut catalog = fixture::cache("catalog");
        catalog.nodes.iter_mut().for_each(|node| (node.up, node.info, node.sample) = (false, None, None));
        state.publisher.publish(catalog);
        for (target, up) in [("10.0.0.1:6379", "1"), ("10.0.0.3:6379", "0")] {
            let scrape = get(state.clone(), &format!("/scrape?target={target}")).await;
            assert!(scrape.text().contains(&format!("\nredis_up {up}\n")), "{target}: {}", scrape.text());
        }
    }

    #[tokio::test]
    async fn documents_are_json() {
        let report = get(state(), "/api/v1/report").await;
        assert_eq!(report.header(header::CONTENT_TYPE), "application/json");
        assert_eq!(serde_json::from_slice::<Report>(&report.body).unwrap().severity, 2);
        let episodes = get(state(), "/api/v1/episodes").await;
        assert_eq!(serde_json::from_slice::<Episodes>(&episodes.body).unwrap().episodes.len(), 2);
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_refused() {
        assert_eq!(get(state(), "/metricz").await.status, StatusCode::NOT_FOUND);
        assert_eq!(get(state(), "/-/reload").await.status, StatusCode::METHOD_NOT_ALLOWED);
        let post = Request::post("/metrics").body(Body::empty()).unwrap();
        assert_eq!(ask(router(state()), post).await.status, StatusCode::METHOD_NOT_ALLOWED);
        let head = Request::builder().method(Method::HEAD).uri("/metrics").body(Body::empty()).unwrap();
        let head = ask(router(state()), head).await;
        assert!(head.status == StatusCode::OK && head.body.is_empty());
    }

    #[tokio::test]
    async fn only_get_and_head_are_served() {
        let read_only = [
            "/",
            page::STYLE_PATH,
            page::SCRIPT_PATH,
            page::ICON_PATH,
            "/favicon.ico",
            "/metrics",
            "/scrape?target=10.0.0.1:6379",
            "/sd",
            "/api/v1/report",
            "/api/v1/episodes",
            "/api/v1/hotkeys",
            "/-/healthy",
            "/-/ready",
        ];
        for path in read_only {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                let request = Request::builder().method(&method).uri(path).body(Body::empty()).unwrap();
                assert_eq!(
                    ask(router(state()), request).await.status,
                    StatusCode::METHOD_NOT_ALLOWED,
                    "{method} {path}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_part_of_the_metrics_can_be_asked_for() {
        let state = state();
        state.publisher.publish(fixture::cache("catalog"));
        let of = async |query: &str| get(state.clone(), &format!("/metrics?{query}")).await;
        let one = of("cache=catalog&collect[]=cache").await;
        assert_eq!(one.status, StatusCode::OK);
        assert!(one.text().contains("cache_storm_severity{cache=\"catalog\"}"));
        assert!(!one.text().contains("sessions") && !one.text().contains("cache_storm_node_up"));
        let two = of("cache=catalog&cache=sessions&collect%5B%5D=redis").await;
        for cache in ["catalog", "sessions"] {
            assert!(two.text().contains(&format!("redis_up{{cache=\"{cache}\"")), "{}", two.text());
        }
        assert!(!two.text().contains("cache_storm_"));
        assert_eq!(of("cache=nobody").await.status, StatusCode::NOT_FOUND);
        let refused = of("collect[]=nodes").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().contains("cache, node, redis, exporter"), "{}", refused.text());
    }

    #[tokio::test]
    async fn every_answer_carries_the_common_headers() {
        for path in ["/", "/metrics", "/nowhere"] {
            let answer = get(state(), path).await;
            for (name, value) in COMMON_HEADERS {
                assert_eq!(answer.header(name.clone()), value, "{path} {name}");
            }
        }
    }

    #[tokio::test]
    async fn the_page_tells_the_storm_and_escapes_what_it_is_told() {
        let state = state();
        let hostile = "<script>alert('1')</script>";
        state.publisher.expect(&[CacheName::from("sessions"), CacheName::from(hostile)]);
        state.publisher.publish(fixture::cache(hostile));
        let page = get(state, "/").await;
        assert_eq!(page.header(header::CONTENT_TYPE), "text/html; charset=utf-8");
        let html = page.text();
        for part in [
            "a &lt;demo&gt; fleet",
            "sessions",
            "major",
            "mass invalidation",
            "10.0.0.3:6379",
            "refused",
            "href=\"/metrics\"",
            "&lt;script&gt;alert('1')&lt;/script&gt;",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<script").count(), 1, "its own: {html}");
        assert!(!html.contains("style=\""), "the policy allows none: {html}");
        assert!(!html.contains("http-equiv"), "reloads only when asked");
    }

    #[tokio::test]
    async fn the_page_says_that_discovery_fails_and_why() {
        let state = state();
        for cache in ["sessions", "catalog"] {
            state.publisher.set_discovery(&cache.into(), Some(fixture::failing_discovery()));
        }
        let page = get(state, "/").await;
        for part in [
            "Topology: discovery (sentinel) has failed for ",
            " s: s:26379: connection refused; the last known nodes are polled.",
            "Nobody says which nodes catalog has: discovery (sentinel) has failed for ",
        ] {
            assert!(page.text().contains(part), "{part}: {}", page.text());
        }
    }

    #[tokio::test]
    async fn what_the_page_is_made_of_is_served_beside_it() {
        for (path, kind) in [
            (page::STYLE_PATH, "text/css; charset=utf-8"),
            (page::SCRIPT_PATH, "text/javascript; charset=utf-8"),
            (page::ICON_PATH, "image/svg+xml"),
        ] {
            let answer = get(state(), path).await;
            assert_eq!((answer.status, answer.header(header::CONTENT_TYPE)), (StatusCode::OK, kind), "{path}");
            assert!(get(state(), "/").await.text().contains(path), "the page asks for {path}");
            assert!(!answer.text().contains("://") || path == page::ICON_PATH, "{path} refers to nobody else");
        }
    }

    async fn reload(state: ServeState, origin: Option<&str>) -> Answer {
        let mut request = Request::post("/-/reload");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        ask(router(state), request.body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn reload_needs_the_lifecycle_and_no_browser() {
        assert_eq!(reload(state(), None).await.status, StatusCode::FORBIDDEN);
        let (sender, mut receiver) = mpsc::channel::<ReloadRequest>(1);
        let state = ServeState { reload: Some(sender), ..state() };
        assert_eq!(reload(state.clone(), Some("http://elsewhere")).await.status, StatusCode::FORBIDDEN);
        assert!(receiver.try_recv().is_err(), "a refused request reloads nothing");
        let answers = tokio::spawn(async move {
            for outcome in [Ok(()), Err("config.yaml: caches: none".to_owned())] {
                receiver.recv().await.unwrap().send(outcome).unwrap();
            }
        });
        assert_eq!(reload(state.clone(), None).await.status, StatusCode::OK);
        let refused = reload(state.clone(), None).await;
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.text().contains("config.yaml: caches: none"));
        answers.await.unwrap();
        assert_eq!(
            reload(state, None).await.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "nobody takes requests any more"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_real_socket_is_served_until_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router(state()), async {
            stopped.await.expect("the test says when to stop");
        }));
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        assert!(answer.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.expect("drains in time").unwrap().unwrap();
    }
}
