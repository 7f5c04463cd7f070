//! One connection to one server: connect, introduce ourselves, ask. The only `redis::`.
//!
//! One request is in flight at a time and nothing runs in the background. A connection on which
//! anything went wrong must be dropped by its owner: after a timeout the late answer is still on
//! its way and would be taken for the next one.

mod error;
mod extras;
mod feed;
mod limit;
mod reply;
mod room;
mod subscription;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::config::{Credentials, Endpoint, TlsOptions};
use crate::model::{FailureReason, NodeName};
pub use error::PollError;
use error::{Fault, name, presentable};
pub use extras::Extras;
pub use feed::FeedEnd;
use limit::Limited;
pub use reply::Reply;
pub use tls::TlsStore;

/// Name under which operators find us in `CLIENT LIST`.
const CLIENT_NAME: &str = "cache-storm-exporter";

/// Largest answer to one poll. INFO with commandstats is 5 to 30 KiB; a server that sends more than
/// this is not telling us about itself.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// Why a server is not dialled that has no descriptor left to it.
const NO_ROOM: &str = "no file descriptor is left for it; raise the limit of open files (ulimit -n, LimitNOFILE)";

/// The command of a poll, for messages.
const INFO: &[&str] = &["INFO"];

/// Two commands, not one: before 7.0 INFO takes a single section. The default sections come first,
/// `commandstats` may be refused on its own.
static INFO_REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut request = redis::cmd("INFO").get_packed_command();
    request.extend(redis::cmd("INFO").arg("commandstats").get_packed_command());
    request
});

/// An open, authenticated connection.
#[derive(Debug)]
pub struct Connection {
    node: NodeName,
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    credentials: Credentials,
    /// Commands on top of `INFO` that the server has refused.
    refused: Vec<&'static str>,
    _place: room::Place,
}

/// What a server said of itself.
#[derive(Debug, Clone)]
pub struct InfoReply {
    /// Its `INFO`, default sections and, where permitted, `commandstats`.
    pub text: String,
    /// What it answered on top of `INFO`, as lines of the same form.
    pub extras: String,
    /// From sending the question to having the answer.
    pub took: Duration,
}

impl Connection {
    /// Connects, authenticates and names the connection, all before `deadline`.
    ///
    /// # Errors
    /// Any [`FailureReason`] but `noperm`; a refused `CLIENT SETNAME` is tolerated.
    pub async fn open(endpoint: &Endpoint, tls: &TlsStore, deadline: Instant) -> Result<Self, PollError> {
        Self::open_faulty(endpoint, tls, deadline).await.map_err(|fault| fault.at(&endpoint.node))
    }

    /// Asks for `INFO` and `commandstats` in one round trip. After an error the connection is
    /// of no more use.
    ///
    /// # Errors
    /// `timeout` at the deadline, `noperm` and the like as the server refuses, `too_large` past
    /// 4 MiB, `protocol` and `io` for what is no answer at all.
    pub async fn info(&mut self, deadline: Instant) -> Result<InfoReply, PollError> {
        self.info_and(&Extras::default(), deadline).await
    }

    /// As [`Connection::info`], and in the same round trip more. An extra that is refused fails nothing, and is not
    /// asked for again.
    ///
    /// # Errors
    /// As [`Connection::info`].
    pub async fn info_and(&mut self, extras: &Extras, deadline: Instant) -> Result<InfoReply, PollError> {
        let sent = Instant::now();
        let questions = extras.questions(&self.refused);
        let mut request = INFO_REQUEST.clone();
        for question in &questions {
            let words: Vec<&str> = question.command().split(' ').chain(question.argument()).collect();
            request.extend(packed(&words));
        }
        let mut replies = vec![Reply::Null; 2 + questions.len()];
        let password = self.credentials.expose_password();
        let answered = exchange(&mut self.stream, &request, &mut replies, password);
        let answered = within(deadline, "waiting for INFO", answered).await;
        let told = replies.split_off(2);
        let text = answered.and_then(|()| info_text(replies, password)).map_err(|fault| fault.at(&self.node))?;
        let extras = extras::lines(&questions, &told, &mut self.refused);
        Ok(InfoReply { text, extras, took: sent.elapsed() })
    }

    /// Asks for settings by name, in one round trip; one that the server does not know is `None`.
    ///
    /// # Errors
    /// `noperm` where `CONFIG GET` is not permitted, else as [`Connection::info`].
    pub async fn settings<const N: usize>(
        &mut self,
        names: [&str; N],
        deadline: Instant,
    ) -> Result<[Option<String>; N], PollError> {
        let request: Vec<u8> =
            names.iter().flat_map(|name| redis::cmd("CONFIG").arg("GET").arg(name).get_packed_command()).collect();
        let replies: Result<[Reply; N], _> = within(deadline, "waiting for CONFIG GET", self.exchange(&request)).await;
        let mut settings = [const { None }; N];
        for (setting, reply) in settings.iter_mut().zip(replies.map_err(|fault| fault.at(&self.node))?) {
            *setting =
                setting_text(&reply, self.credentials.expose_password()).map_err(|fault| fault.at(&self.node))?;
        }
        Ok(settings)
    }

    /// Says good-bye. `Ok` proves that the server lets us: from 7.2 on a user may be denied `QUIT`.
    ///
    /// # Errors
    /// `noperm` where `QUIT` is not permitted, else as [`Connection::info`].
    pub async fn quit(mut self, deadline: Instant) -> Result<(), PollError> {
        let request = redis::cmd("QUIT").get_packed_command();
        let reply = within(deadline, "waiting for QUIT", self.exchange(&request)).await;
        match reply {
            Ok([Reply::Error { code, text }]) => Err(self.refusal(&["QUIT"], &code, &text)),
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.at(&self.node)),
        }
    }

    /// Sends commands in one write and reads one reply to each, in order; refusals are among them. After an error
    /// the connection is of no more use.
    ///
    /// # Errors
    /// `timeout` at the deadline, `too_large` past 4 MiB for all replies together, `protocol` and `io` for what is
    /// no answer at all.
    pub async fn ask(&mut self, commands: &[&[&str]], deadline: Instant) -> Result<Vec<Reply>, PollError> {
        let request: Vec<u8> = commands.iter().flat_map(|words| packed(words)).collect();
        let mut replies = vec![Reply::Null; commands.len()];
        let doing = format!("waiting for {}", name(commands.first().copied().unwrap_or_default()));
        let password = self.credentials.expose_password();
        let answered = within(deadline, &doing, exchange(&mut self.stream, &request, &mut replies, password)).await;
        answered.map(|()| replies).map_err(|fault| fault.at(&self.node))
    }

    /// Sends one command; its reply, unless that is a refusal.
    ///
    /// # Errors
    /// As [`Connection::ask`], and as [`Connection::refusal`] for a reply that is an error.
    pub async fn call(&mut self, command: &[&str], deadline: Instant) -> Result<Reply, PollError> {
        match self.ask(&[command], deadline).await?.pop() {
            Some(Reply::Error { code, text }) => Err(self.refusal(command, &code, &text)),
            Some(reply) => Ok(reply),
            None => Ok(Reply::Null),
        }
    }

    /// What the refusal of a command means: `noperm` says what to grant; `protocol` is a refusal that has no other
    /// meaning, such as a command that the server does not know.
    #[must_use]
    pub fn refusal(&self, command: &[&str], code: &str, text: &str) -> PollError {
        Fault::from_reply(command, code, text, self.credentials.expose_password()).at(&self.node)
    }

    async fn open_faulty(endpoint: &Endpoint, tls: &TlsStore, deadline: Instant) -> Result<Self, Fault> {
        let place = room::place().ok_or_else(|| Fault::new(FailureReason::Io, NO_ROOM))?;
        let tcp = connect(endpoint, deadline).await?;
        let stream = match &endpoint.tls {
            None => Either::Left(tcp),
            Some(options) => Either::Right(Box::new(encrypt(tcp, endpoint, options, tls, deadline).await?)),
        };
        let mut connection = Self {
            node: endpoint.node.clone(),
            stream,
            credentials: endpoint.credentials.clone(),
            refused: Vec::new(),
            _place: place,
        };
        within(deadline, "introducing ourselves", connection.introduce()).await?;
        Ok(connection)
    }

    /// AUTH, where there is a password, and CLIENT SETNAME, in one write.
    async fn introduce(&mut self) -> Result<(), Fault> {
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(CLIENT_NAME);
        let name = name.get_packed_command();
        // The reply to SETNAME is not looked at: restricted users may not name themselves, and some
        // services know no CLIENT. That is no reason not to poll.
        let Some(mut request) = auth_request(&self.credentials) else {
            return self.exchange::<1>(&name).await.map(|_| ());
        };
        request.extend(name);
        match self.exchange::<2>(&request).await? {
            [Reply::Error { code, text }, _] => Err(Fault::from_auth_reply(&code, &text)),
            _ => Ok(()),
        }
    }

    async fn exchange<const N: usize>(&mut self, request: &[u8]) -> Result<[Reply; N], Fault> {
        let mut replies = [const { Reply::Null }; N];
        exchange(&mut self.stream, request, &mut replies, self.credentials.expose_password()).await?;
        Ok(replies)
    }
}

/// Sends `request` and reads a reply into each of `replies`.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
    replies: &mut [Reply],
    password: Option<&str>,
) -> Result<(), Fault> {
    // A server without room says so and hangs up: its words may lie in our buffer although the
    // write fails, so they are read in any case.
    let unsent = write(stream, request).await.err();
    let mut limited = Limited::new(stream, REPLY_BYTES_MAX);
    let mut decoder = Default::default();
    for (index, reply) in replies.iter_mut().enumerate() {
        *reply = match redis::parse_redis_value_async(&mut decoder, &mut limited).await {
            Ok(value) => Reply::from(value),
            Err(syntax) => {
                return Err(match unsent.or(limited.fault) {
                    Some(error) => Fault::from_io(&error),
                    None => {
                        let text = presentable(&syntax.to_string(), password);
                        Fault::new(FailureReason::Protocol, format!("what answers does not speak RESP: {text}"))
                    }
                });
            }
        };
        // Nothing more is coming: the server refused the connection, not the command.
        if let (0, Reply::Error { code, text }) = (index, &*reply)
            && let fault = Fault::from_reply(INFO, code, text, password)
            && (fault.reason == FailureReason::MaxClients || code == "DENIED")
        {
            return Err(fault);
        }
    }
    if !decoder.buffer().is_empty() {
        return Err(Fault::new(FailureReason::Protocol, "the server sent more than it was asked for"));
    }
    Ok(())
}

/// Shows replies to `take` as they come, until it returns a fault, the stream fails or is silent for too long.
async fn read_replies(
    stream: &mut Limited<'_, impl AsyncRead + Unpin>,
    silence_max: Duration,
    mut take: impl FnMut(Reply) -> Option<Fault>,
) -> Fault {
    let mut decoder = Default::default();
    loop {
        let reply = timeout(silence_max, redis::parse_redis_value_async(&mut decoder, &mut *stream)).await;
        let fault = match reply {
            Ok(Ok(value)) => take(Reply::from(value)),
            Ok(Err(_)) => Some(match stream.fault.take() {
                Some(error) => Fault::from_io(&error),
                None => Fault::new(FailureReason::Protocol, "what answers does not speak RESP"),
            }),
            Err(_) => Some(Fault::new(FailureReason::Timeout, "the server has fallen silent")),
        };
        if let Some(fault) = fault {
            return fault;
        }
    }
}

impl From<redis::Value> for Reply {
    /// Recursion is as deep as the parser lets a reply be: 100 levels.
    fn from(value: redis::Value) -> Self {
        use redis::Value;
        let list = |values: Vec<Value>| Self::Array(values.into_iter().map(Self::from).collect());
        match value {
            Value::Int(number) => Self::Integer(number),
            Value::BulkString(bytes) => Self::Text(
                String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Self::Text(text),
            Value::Okay => Self::Text("OK".to_owned()),
            Value::Array(values) | Value::Set(values) => list(values),
            Value::Map(pairs) => list(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
            Value::ServerError(error) => {
                Self::Error { code: error.code().to_owned(), text: error.details().unwrap_or_default().to_owned() }
            }
            _ => Self::Null,
        }
    }
}

/// A command as sent.
fn packed(words: &[&str]) -> Vec<u8> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.get_packed_command()
}

/// The value in the reply to `CONFIG GET` of one name: name and value, or nothing.
fn setting_text(reply: &Reply, password: Option<&str>) -> Result<Option<String>, Fault> {
    match reply {
        Reply::Array(items) => Ok(items.get(1).and_then(Reply::text).map(str::to_owned)),
        Reply::Error { code, text } => Err(Fault::from_reply(&["CONFIG", "GET"], code, text, password)),
        _ => Err(Fault::new(FailureReason::Protocol, "CONFIG GET was answered, but not with settings")),
    }
}

/// The whole text, from the reply to `INFO` and the one to `INFO commandstats`.
fn info_text(replies: Vec<Reply>, password: Option<&str>) -> Result<String, Fault> {
    let mut replies = replies.into_iter();
    let mut text = match replies.next().unwrap_or(Reply::Null) {
        Reply::Text(text) if text.contains(':') => text,
        Reply::Error { code, text } => return Err(Fault::from_reply(INFO, &code, &text, password)),
        _ => {
            return Err(Fault::new(FailureReason::Protocol, "INFO was answered, but not with fields"));
        }
    };
    if let Some(Reply::Text(commandstats)) = replies.next() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&commandstats);
    }
    Ok(text)
}

fn auth_request(credentials: &Credentials) -> Option<Vec<u8>> {
    let password = credentials.expose_password()?;
    let mut auth = redis::cmd("AUTH");
    if let Some(username) = &credentials.username {
        auth.arg(username);
    }
    auth.arg(password);
    Some(auth.get_packed_command())
}

async fn connect(endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, Fault> {
    let host = (endpoint.host.as_str(), endpoint.port);
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup_host(host)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(Fault::new(FailureReason::Dns, format!("the name does not resolve: {error}"))),
        Err(_) => return Err(Fault::new(FailureReason::Dns, "the name was not resolved before the deadline")),
    };
    if addresses.is_empty() {
        return Err(Fault::new(FailureReason::Dns, "the name resolves to no address"));
    }
    // Asked here, not when the host was found: a name may point elsewhere since.
    let permitted = |address: &SocketAddr| endpoint.allow.as_ref().is_none_or(|allow| allow.permits(address.ip()));
    let addresses: Vec<SocketAddr> = addresses.into_iter().filter(permitted).collect();
    if addresses.is_empty() {
        return Err(Fault::new(FailureReason::Dns, "the name resolves to addresses outside discovery.allow only"));
    }
    let tcp = within(deadline, "connecting", async {
        TcpStream::connect(&*addresses).await.map_err(|error| Fault::from_io(&error))
    })
    .await?;
    tcp.set_nodelay(true).map_err(|error| Fault::from_io(&error))?;
    Ok(tcp)
}

async fn encrypt(
    tcp: TcpStream,
    endpoint: &Endpoint,
    options: &TlsOptions,
    tls: &TlsStore,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, Fault> {
    let fault = |detail: String| Fault::new(FailureReason::Tls, detail);
    let config = tls.client_config(options).map_err(fault)?;
    let name = options.server_name.as_ref().unwrap_or(&endpoint.host);
    let name = ServerName::try_from(name.clone())
        .map_err(|_| fault(format!("`{name}` cannot be a certificate's name; set server_name")))?;
    within(deadline, "shaking hands over TLS", async {
        TlsConnector::from(config).connect(name, tcp).await.map_err(|error| {
            fault(format!("no TLS with this server: {error}; check its certificate, ca_file and server_name"))
        })
    })
    .await
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), request: &[u8]) -> io::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await
}

async fn within<T>(deadline: Instant, doing: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(FailureReason::Timeout, format!("the deadline passed while {doing}"))),
    }
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
