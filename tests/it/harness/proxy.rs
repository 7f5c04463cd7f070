//! A TCP proxy that can stop forwarding while connections stay open, and remembers what clients said.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards to one port; its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    flow: watch::Sender<Flow>,
    heard: Heard,
    _tasks: JoinSet<()>,
}

/// What passes.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    stalled: bool,
    /// Grows when the connections that stand are lost: a connection passes under the number it began with.
    losses: u32,
}

/// What all clients sent, connection by connection only where there was one.
type Heard = Arc<Mutex<Vec<u8>>>;

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        Self::start_at("127.0.0.1", target).await
    }

    /// One that listens at another of this machine's addresses.
    pub(crate) async fn start_at(address: &str, target: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (flow, state) = watch::channel(Flow::default());
        let (heard, mut tasks) = (Heard::default(), JoinSet::new());
        tasks.spawn(accept(listener, target, state, Arc::clone(&heard)));
        Self { port, flow, heard, _tasks: tasks }
    }

    /// What clients have sent so far.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// From now on nothing passes, in either direction.
    pub(crate) fn stall(&self) {
        self.flow.send_modify(|flow| flow.stalled = true);
    }

    /// What waited passes, and everything after it.
    pub(crate) fn resume(&self) {
        self.flow.send_modify(|flow| flow.stalled = false);
    }

    /// Connections that stand stay open and carry nothing any more, as if the machine behind them were gone; new ones
    /// are none the worse.
    pub(crate) fn lose_connections(&self) {
        self.flow.send_modify(|flow| flow.losses += 1);
    }
}

async fn accept(listener: TcpListener, target: u16, flow: watch::Receiver<Flow>, heard: Heard) {
    let mut copies = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
        let (near, far) = (near.into_split(), far.into_split());
        copies.spawn(copy(near.0, far.1, flow.clone(), Some(Arc::clone(&heard))));
        copies.spawn(copy(far.0, near.1, flow.clone(), None));
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    heard: Option<Heard>,
) -> io::Result<()> {
    let (mut buffer, begun) = (vec![0; 64 * 1024], flow.borrow().losses);
    loop {
        let read = from.read(&mut buffer).await?;
        if flow.wait_for(|flow| !flow.stalled && flow.losses == begun).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        if let Some(heard) = &heard {
            heard.lock().unwrap().extend(&buffer[..read]);
        }
        to.write_all(&buffer[..read]).await?;
    }
}
