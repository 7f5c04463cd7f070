//! Conversations with a scripted server, and with a real one.

use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio_rustls::TlsAcceptor;

use super::scripted::{self, Script, ScriptedServer, bulk, deserted};
use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn ask(endpoint: &Endpoint) -> Result<String, PollError> {
    let mut connection = Connection::open(endpoint, &TlsStore::default(), soon()).await?;
    Ok(connection.info(soon()).await?.text)
}

async fn reason_with(script: Script) -> FailureReason {
    let server = ScriptedServer::start(script).await;
    ask(&server.endpoint()).await.unwrap_err().reason
}

fn with_password(mut endpoint: Endpoint, username: Option<&str>, password: &str) -> Endpoint {
    endpoint.credentials =
        Credentials { username: username.map(str::to_owned), password: Some(password.to_owned().into()) };
    endpoint
}

#[tokio::test]
async fn asks_for_both_parts_and_never_for_a_key() {
    let server = ScriptedServer::start(Script::default()).await;
    let endpoint = with_password(server.endpoint(), Some("exporter"), "pw");
    let text = ask(&endpoint).await.unwrap();
    assert!(text.contains("redis_version:7.0.15\r\n") && text.contains("cmdstat_set:calls=3\r\n"), "{text}");
    assert_eq!(
        server.commands(),
        ["AUTH exporter pw", "CLIENT SETNAME cache-storm-exporter", "INFO", "INFO commandstats"]
    );
}

#[tokio::test]
async fn refused_extras_are_tolerated() {
    let no_perm = "-NOPERM no permission\r\n".to_owned();
    let script = Script { set_name: no_perm.clone(), commandstats: no_perm, ..Script::default() };
    let server = ScriptedServer::start(script).await;
    let mut connection = Connection::open(&server.endpoint(), &TlsStore::default(), soon()).await.unwrap();
    for _ in 0..3 {
        assert!(!connection.info(soon()).await.unwrap().text.contains("cmdstat"));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn every_refusal_has_its_reason() {
    for (info, reason) in [
        ("-NOPERM User x has no permissions to run the 'info' command\r\n", FailureReason::NoPerm),
        ("-NOAUTH Authentication required.\r\n", FailureReason::Auth),
        ("-LOADING Redis is loading the dataset in memory\r\n", FailureReason::Loading),
        ("-BUSY Redis is busy running a script.\r\n", FailureReason::Busy),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", FailureReason::Protocol),
        ("$5\r\nhello\r\n", FailureReason::Protocol),
        (":1\r\n", FailureReason::Protocol),
        ("+a:1\r\n+b:1\r\n+c:1\r\n", FailureReason::Protocol),
    ] {
        let script = Script { info: info.to_owned(), ..Script::default() };
        assert_eq!(reason_with(script).await, reason, "{info}");
    }
}

#[tokio::test]
async fn a_server_without_room_is_told_from_a_broken_one() {
    let greeting = Some("-ERR max number of clients reached\r\n".to_owned());
    assert_eq!(reason_with(Script { greeting, ..Script::default() }).await, FailureReason::MaxClients);
    let greeting = Some(String::new());
    assert_eq!(reason_with(Script { greeting, ..Script::default() }).await, FailureReason::Io);
}

#[tokio::test]
async fn a_refused_password_is_named_but_not_repeated() {
    for auth in [
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        "-ERR AUTH <password> called without any password configured for the default user.\r\n",
        "-ERR unknown command `AUTH`, with args beginning with: `hunter2`, \r\n",
    ] {
        let server = ScriptedServer::start(Script { auth: auth.to_owned(), ..Script::default() }).await;
        let error = ask(&with_password(server.endpoint(), None, "hunter2")).await.unwrap_err();
        assert_eq!(error.reason, FailureReason::Auth);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_and_no_such_name() {
    let endpoint = deserted().await;
    assert_eq!(ask(&endpoint).await.unwrap_err().reason, FailureReason::Refused);
    let nowhere = Endpoint { host: "nowhere.invalid".into(), ..endpoint };
    assert_eq!(ask(&nowhere).await.unwrap_err().reason, FailureReason::Dns);
}

#[tokio::test]
async fn a_hung_server_costs_the_deadline() {
    let server = ScriptedServer::start(Script { hang: true, ..Script::default() }).await;
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(200);
    let error = Connection::open(&server.endpoint(), &TlsStore::default(), deadline).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Timeout);
    let took = begun.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(2)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_answer_past_the_limit_is_refused() {
    let info = bulk(&"x".repeat(REPLY_BYTES_MAX + 1));
    assert_eq!(reason_with(Script { info, ..Script::default() }).await, FailureReason::TooLarge);
}

/// Says one thing, then nothing; keeps the largest buffer it was offered.
struct Dripping {
    text: &'static [u8],
    offered_max: usize,
}

impl AsyncRead for Dripping {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.offered_max = self.offered_max.max(buf.remaining());
        buf.put_slice(std::mem::take(&mut self.text));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_announced_size_allocates_nothing() {
    for (text, reason) in [
        ("$100000000\r\nrole:master", FailureReason::TooLarge),
        ("*100000000\r\n:1\r\n", FailureReason::Io),
        ("%100000000\r\n:1\r\n", FailureReason::Io),
    ] {
        let mut stream = tokio::io::join(Dripping { text: text.as_bytes(), offered_max: 0 }, tokio::io::sink());
        let fault = exchange(&mut stream, &INFO_REQUEST, &mut [Reply::Null], None).await.unwrap_err();
        assert_eq!(fault.reason, reason, "{text}: {fault:?}");
        assert!(stream.reader().offered_max <= 64 << 10, "{}", stream.reader().offered_max);
    }
}

#[tokio::test]
async fn any_command_is_answered_by_a_tree() {
    let tree = "*3\r\n$2\r\nid\r\n*2\r\n:7\r\n$-1\r\n%1\r\n+a\r\n+OK\r\n".to_owned();
    let server = ScriptedServer::start(Script { info: tree, ..Script::default() }).await;
    let mut connection = Connection::open(&server.endpoint(), &TlsStore::default(), soon()).await.unwrap();
    let reply = connection.call(&["CLUSTER", "SHARDS"], soon()).await.unwrap();
    let text = |text: &str| Reply::Text(text.to_owned());
    let inner = Reply::Array(vec![Reply::Integer(7), Reply::Null]);
    assert_eq!(reply, Reply::Array(vec![text("id"), inner, Reply::Array(vec![text("a"), text("OK")])]));

    // A refusal inside a pipeline is a reply like any other: CKQUORUM says so what it found.
    let refusal = "-NOQUORUM 1 usable Sentinels.\r\n".to_owned();
    server.follow(Script { info: refusal, ..Script::default() });
    let commands: [&[&str]; 2] = [&["SENTINEL", "CKQUORUM", "m"], &["PING"]];
    let replies = connection.ask(&commands, soon()).await.unwrap();
    let no_quorum = Reply::Error { code: "NOQUORUM".to_owned(), text: "1 usable Sentinels.".to_owned() };
    assert_eq!(replies, [no_quorum.clone(), no_quorum]);
    assert_eq!(server.commands()[1..], ["CLUSTER SHARDS", "SENTINEL CKQUORUM m", "PING"]);
    let error = connection.call(commands[0], soon()).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Protocol);
    assert!(error.detail.starts_with("SENTINEL CKQUORUM was answered by an error (the server said: NOQUORUM 1"));
}

#[tokio::test]
async fn a_reply_that_is_too_deep_or_too_large_is_refused() {
    let deep = "*1\r\n".repeat(2_000) + ":1\r\n";
    let large = format!("*2\r\n{}{}", bulk(&"x".repeat(REPLY_BYTES_MAX / 2)), bulk(&"x".repeat(REPLY_BYTES_MAX / 2)));
    for (info, reason) in [(deep, FailureReason::Protocol), (large, FailureReason::TooLarge)] {
        let server = ScriptedServer::start(Script { info, ..Script::default() }).await;
        let mut connection = Connection::open(&server.endpoint(), &TlsStore::default(), soon()).await.unwrap();
        assert_eq!(connection.call(&["CLUSTER", "SHARDS"], soon()).await.unwrap_err().reason, reason);
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn options(&self, folder: &Path) -> TlsOptions {
        let ca_file = folder.join("ca.pem");
        std::fs::write(&ca_file, self.issuer.pem()).unwrap();
        TlsOptions { ca_file: Some(ca_file), ..TlsOptions::default() }
    }

    /// Accepts clients of this authority only, where `mutual`.
    fn acceptor(&self, name: &str, mutual: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

fn with_tls(server: &ScriptedServer, options: TlsOptions) -> Endpoint {
    Endpoint { tls: Some(Arc::new(options)), ..server.endpoint() }
}

#[tokio::test]
async fn tls_trusts_its_authority_and_checks_the_name() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let options = authority.options(folder.path());
    let server = ScriptedServer::start_with(Script::default(), Some(authority.acceptor("redis.test", false))).await;

    let named = TlsOptions { server_name: Some("redis.test".into()), ..options.clone() };
    assert!(ask(&with_tls(&server, named)).await.unwrap().contains("role:master"));

    // By default the host is the name, here an address that the certificate does not hold.
    let error = ask(&with_tls(&server, options)).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Tls, "{error}");

    let stranger = tempfile::tempdir().unwrap();
    let options = TlsOptions { server_name: Some("redis.test".into()), ..Authority::new().options(stranger.path()) };
    assert_eq!(ask(&with_tls(&server, options)).await.unwrap_err().reason, FailureReason::Tls);
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_absence_is_a_tls_failure() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = ScriptedServer::start_with(Script::default(), Some(authority.acceptor("127.0.0.1", true))).await;
    let mut options = authority.options(folder.path());
    let error = ask(&with_tls(&server, options.clone())).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Tls, "{error}");

    let (certificate, key) = authority.issue("exporter");
    let files = (folder.path().join("client.pem"), folder.path().join("client.key"));
    std::fs::write(&files.0, certificate.pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    options.client = Some(files);
    assert!(ask(&with_tls(&server, options)).await.unwrap().contains("role:master"));
}

#[tokio::test]
async fn tls_files_are_read_once_and_again_when_told() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = ScriptedServer::start_with(Script::default(), Some(authority.acceptor("127.0.0.1", false))).await;
    let options = authority.options(folder.path());
    let file = options.ca_file.clone().unwrap();
    let endpoint = with_tls(&server, options);
    let store = TlsStore::default();

    std::fs::write(&file, "not a certificate").unwrap();
    let error = Connection::open(&endpoint, &store, soon()).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Tls);
    assert!(error.detail.contains("ca.pem holds no certificate"), "{error}");

    authority.options(folder.path());
    assert!(Connection::open(&endpoint, &store, soon()).await.is_err());
    store.forget();
    assert!(Connection::open(&endpoint, &store, soon()).await.is_ok());
}

#[tokio::test]
async fn plain_where_tls_is_spoken_and_the_other_way_round() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let plain = ScriptedServer::start(Script::default()).await;
    let options = authority.options(folder.path());
    let error = tokio::time::timeout(Duration::from_secs(6), ask(&with_tls(&plain, options))).await.unwrap();
    assert!(matches!(error.unwrap_err().reason, FailureReason::Tls | FailureReason::Timeout));
    let encrypted = ScriptedServer::start_with(Script::default(), Some(authority.acceptor("127.0.0.1", false))).await;
    let reason = ask(&encrypted.endpoint()).await.unwrap_err().reason;
    assert!(matches!(reason, FailureReason::Protocol | FailureReason::Io), "{reason}");
}

/// A real server, gone with the test.
struct RealServer {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl RealServer {
    async fn start(arguments: &[&str]) -> Self {
        let port = deserted().await.port;
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server: apt-get install redis-server");
        let server = Self { process, port, folder };
        let deadline = soon();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server did not start in {:?}", server.folder.path());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    fn endpoint(&self) -> Endpoint {
        super::scripted::endpoint(([127, 0, 0, 1], self.port).into())
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn a_real_server_answers_and_refuses() {
    let user = ["--user", "poller", "on", ">pw", "-@all", "+info", "--user", "nothing", "on", ">pw", "-@all"];
    let server = RealServer::start(&[&["--requirepass", "s3cret"][..], &user].concat()).await;
    let text = ask(&with_password(server.endpoint(), None, "s3cret")).await.unwrap();
    assert!(text.contains("\nrun_id:") && text.contains("\ncmdstat_client|setname:"), "{text}");
    assert!(ask(&with_password(server.endpoint(), Some("poller"), "pw")).await.unwrap().contains("\nrun_id:"));

    for (endpoint, reason) in [
        (server.endpoint(), FailureReason::Auth),
        (with_password(server.endpoint(), None, "wrong"), FailureReason::Auth),
        (with_password(server.endpoint(), Some("poller"), "wrong"), FailureReason::Auth),
        (with_password(server.endpoint(), Some("nothing"), "pw"), FailureReason::NoPerm),
    ] {
        let error = ask(&endpoint).await.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
    }
}

#[tokio::test]
async fn a_real_server_without_a_password_wants_none() {
    let server = RealServer::start(&[]).await;
    let error = ask(&with_password(server.endpoint(), None, "hunter2")).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::Auth);
    assert!(error.detail.contains("the server has none"), "{error}");
}

#[tokio::test]
async fn a_real_server_without_room_says_so() {
    let server = RealServer::start(&["--maxclients", "1"]).await;
    // The connection that waited for the server may not have been counted out yet.
    let deadline = soon();
    let only = loop {
        match Connection::open(&server.endpoint(), &TlsStore::default(), soon()).await {
            Ok(connection) => break connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    for _ in 0..20 {
        let error = ask(&server.endpoint()).await.unwrap_err();
        assert_eq!(error.reason, FailureReason::MaxClients, "{error}");
    }
    drop(only);
}

#[tokio::test]
async fn a_subscription_hears_until_it_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = scripted::endpoint(listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 256];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"+OK\r\n").await.unwrap();
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let said = "*3\r\n$9\r\nsubscribe\r\n$5\r\n+tilt\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n\
                    *3\r\n$7\r\nmessage\r\n$5\r\n+tilt\r\n$3\r\n#on\r\n";
        stream.write_all(said.as_bytes()).await.unwrap();
        // What arrives in pieces is one message.
        stream.write_all(b"*3\r\n$7\r\nmess").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"age\r\n$5\r\n+tilt\r\n$4\r\n#off\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        // Read on, so that the end is an orderly one.
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    };
    let mut heard = Vec::new();
    let client = async {
        let connection = Connection::open(&endpoint, &TlsStore::default(), soon()).await.unwrap();
        connection.subscribe(&["+tilt"], |channel, message| heard.push(format!("{channel} {message}"))).await
    };
    let (error, ()) = tokio::join!(client, server);
    assert_eq!(error.reason, FailureReason::Io);
    assert_eq!(heard, ["+tilt #on", "+tilt #off"]);
}
