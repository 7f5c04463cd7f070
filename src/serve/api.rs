//! The paths for programs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{App, sd};
use crate::publish::FleetSnapshot;
use crate::report::{Episodes, HotKeySamples, Report};

/// How long a reload may take before its caller is told that it has not finished.
const RELOAD_DEADLINE: Duration = Duration::from_secs(30);

/// Now, Unix seconds.
pub(super) fn now_unix() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Whether `Accept-Encoding` names gzip, by itself or by `*`, with a weight above 0.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut by_name = None;
    let mut by_star = false;
    for coding in codings.flat_map(|value| value.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let parameter = parameters.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let weight = parameter.map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => by_name = Some(weight > 0.0),
            "*" => by_star = weight > 0.0,
            _ => {}
        }
    }
    by_name.unwrap_or(by_star)
}

pub(super) async fn report(State(app): State<Arc<App>>) -> Response {
    json(app, |fleet| Report::new(fleet, now_unix())).await
}

pub(super) async fn episodes(State(app): State<Arc<App>>) -> Response {
    json(app, Episodes::new).await
}

pub(super) async fn hotkeys(State(app): State<Arc<App>>) -> Response {
    json(app, |fleet| HotKeySamples::new(fleet, now_unix())).await
}

pub(super) async fn targets(State(app): State<Arc<App>>) -> Response {
    json(app, sd::groups).await
}

/// Builds and writes a document off the async threads: with thousands of nodes it takes milliseconds.
async fn json<T: Serialize>(app: Arc<App>, build: impl FnOnce(&FleetSnapshot) -> T + Send + 'static) -> Response {
    let fleet = app.publisher.fleet();
    match tokio::task::spawn_blocking(move || serde_json::to_vec(&build(&fleet))).await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

pub(super) fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "a request was not answered");
    (StatusCode::INTERNAL_SERVER_ERROR, "internal error, see the log\n").into_response()
}

pub(super) async fn healthy() -> &'static str {
    "healthy\n"
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let fleet = app.publisher.fleet();
    if fleet.ready() {
        return "ready\n".into_response();
    }
    let waiting = format!("waiting for the first round of: {}\n", waiting(&fleet).join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, waiting).into_response()
}

/// Caches that have had no round yet.
pub(super) fn waiting(fleet: &FleetSnapshot) -> Vec<&str> {
    fleet.expected.iter().filter(|cache| !fleet.caches.contains_key(*cache)).map(|cache| cache.as_str()).collect()
}

pub(super) async fn reload(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some(requests) = &app.reload else {
        return (StatusCode::FORBIDDEN, "reload by HTTP is disabled: start with --web.enable-lifecycle\n")
            .into_response();
    };
    // Browsers send it with every cross-site POST, operators' tools never do.
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "requests with an Origin header are refused\n").into_response();
    }
    let (done, outcome) = oneshot::channel();
    let reloaded = async {
        requests.send(done).await.map_err(|_| "the exporter is shutting down".to_owned())?;
        outcome.await.unwrap_or_else(|_| Err("the exporter is shutting down".to_owned()))
    };
    match tokio::time::timeout(RELOAD_DEADLINE, reloaded).await {
        Ok(Ok(())) => "reloaded\n".into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload: {error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed to reload: not finished in time\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_where_it_is_wanted() {
        for (value, wanted) in [
            ("gzip", true),
            ("GZIP;q=1.0, *;q=0", true),
            ("br, *", true),
            ("identity", false),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("gzip;Q=0", false),
            ("gzip ; Q=0.5", true),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), wanted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
