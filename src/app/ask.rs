//! One GET of a running exporter.

use std::time::Duration;

use super::AppError;

/// An exporter serves from memory: one that takes longer is in trouble.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// The body of `path` at the exporter that serves `url`; `what` is asked, as errors say it ("for its report").
pub(super) async fn get(url: &str, path: &str, what: &'static str) -> Result<String, AppError> {
    let whom = whom(url);
    let address = address(url).and_then(|base| base.join(path).ok()).ok_or(AppError::NoUrl)?;
    let get = move || -> Result<String, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(ASK_TIME_MAX)).build().into();
        let mut response = agent.get(address.as_str()).call().map_err(|error| error.to_string())?;
        response.body_mut().read_to_string().map_err(|error| error.to_string())
    };
    let answer = tokio::task::spawn_blocking(get).await.unwrap_or_else(|error| Err(error.to_string()));
    answer.map_err(|reason| AppError::Ask { whom, what, reason })
}

/// Host and port. What was typed may hold a password: no error repeats it.
pub(super) fn whom(url: &str) -> String {
    let authority = |address: url::Url| address.authority().rsplit('@').next().unwrap_or_default().to_owned();
    address(url).map_or_else(|| "the --url given".to_owned(), authority)
}

fn address(url: &str) -> Option<url::Url> {
    url::Url::parse(url).ok().filter(|address| address.scheme() == "http" && address.has_host())
}
