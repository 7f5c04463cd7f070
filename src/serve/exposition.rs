//! `/metrics` and `/scrape`: what is published, in the exposition format.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use url::form_urlencoded;

use super::App;
use super::api::{self, accepts_gzip, failed};
use crate::config::RedisMetrics;
use crate::metrics::Selection;
use crate::metrics::encode::{CONTENT_TYPE, node_body};
use crate::model::{NodeName, target};

/// What `collect[]` may name.
const COLLECTORS: &str = "cache, node, redis, exporter";

/// The fleet; `?cache=` (repeatable) and `?collect[]=` leave out the rest of it.
pub(super) async fn metrics(State(app): State<Arc<App>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let compressed = accepts_gzip(&headers);
    let body = match selection(query.as_deref().unwrap_or_default(), app.encoder.redis()) {
        Ok(None) => app.encoder.encoded(compressed).await,
        Ok(Some(selection)) => {
            let fleet = app.publisher.fleet();
            let unknown = |name: &&String| !fleet.expected.iter().any(|cache| cache.as_str() == **name);
            if selection.caches.iter().any(|name| unknown(&name)) {
                return (StatusCode::NOT_FOUND, "no cache of that name is configured\n").into_response();
            }
            app.encoder.selected(selection, compressed).await
        }
        Err(fault) => return (StatusCode::BAD_REQUEST, fault).into_response(),
    };
    match body {
        Ok(parts) => shared(parts, compressed),
        Err(error) => failed(&error),
    }
}

/// What the query asks for; `None` for everything.
fn selection(query: &str, redis: RedisMetrics) -> Result<Option<Selection>, String> {
    let mut selection = Selection { cache: false, node: false, exporter: false, ..Selection::all(RedisMetrics::Off) };
    let mut collected = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            ("cache", name) => selection.caches.push(name.to_owned()),
            ("collect[]", collector) => {
                collected = true;
                match collector {
                    "cache" => selection.cache = true,
                    "node" => selection.node = true,
                    "exporter" => selection.exporter = true,
                    "redis" => selection.redis = redis,
                    _ => return Err(format!("unknown collector, expected collect[]= one of {COLLECTORS}\n")),
                }
            }
            _ => return Err(format!("unknown parameter, expected cache=NAME or collect[]= one of {COLLECTORS}\n")),
        }
    }
    if collected {
        return Ok(Some(selection));
    }
    let caches = selection.caches;
    Ok((!caches.is_empty()).then(|| Selection { caches, ..Selection::all(redis) }))
}

/// One configured or discovered node under the names that others gave its metrics. Whatever else is asked for is
/// unknown here, and is never connected to.
pub(super) async fn scrape(State(app): State<Arc<App>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let text = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "target").map(|(_, text)| text);
    let Some(text) = text else {
        return (StatusCode::BAD_REQUEST, "the parameter target is missing, expected target=HOST:PORT\n")
            .into_response();
    };
    let fleet = app.publisher.fleet();
    let Some((host, port)) = target(&text) else { return no_node() };
    let Some(node) = fleet.node(NodeName::at(host, port).as_str()) else {
        if fleet.ready() {
            return no_node();
        }
        // A cache that has had no round has not said yet which nodes it has.
        let waiting = api::waiting(&fleet).join(", ");
        let text = format!("no node of that name is polled yet: waiting for the first round of {waiting}\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    node.interest.note();
    let compressed = accepts_gzip(&headers);
    match node_body(node, compressed) {
        Ok(parts) => shared(parts, compressed),
        Err(error) => failed(&error),
    }
}

fn no_node() -> Response {
    (StatusCode::NOT_FOUND, "the target is no node that this exporter polls\n").into_response()
}

/// An answer that shares its parts with others.
fn shared(parts: Vec<Bytes>, compressed: bool) -> Response {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let body = Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, Infallible>)));
    let mut response = (
        [
            (header::CONTENT_TYPE, CONTENT_TYPE),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_LENGTH, &length.to_string()),
        ],
        body,
    )
        .into_response();
    if compressed {
        response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_select_or_are_refused() {
        let select = |query| selection(query, RedisMetrics::Core);
        assert_eq!(select("").unwrap(), None);
        let two = select("cache=a&cache=b%20c").unwrap().unwrap();
        assert_eq!(two, Selection { caches: vec!["a".into(), "b c".into()], ..Selection::all(RedisMetrics::Core) });
        let nodes = select("collect[]=node&collect%5B%5D=redis").unwrap().unwrap();
        assert_eq!((nodes.node, nodes.cache, nodes.exporter, nodes.redis), (true, false, false, RedisMetrics::Core));
        for bad in ["collect[]=nodes", "caches=a", "x"] {
            assert!(select(bad).is_err(), "{bad}");
        }
    }
}
