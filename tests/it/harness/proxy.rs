//! A TCP proxy that can stop forwarding while every connection stays open.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards to one port; its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    stalled: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stalled, state) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, state));
        Self { port, stalled, _tasks: tasks }
    }

    /// From now on nothing passes, in either direction.
    pub(crate) fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// What waited passes, and everything after it.
    pub(crate) fn resume(&self) {
        self.stalled.send_replace(false);
    }
}

async fn accept(listener: TcpListener, target: u16, stalled: watch::Receiver<bool>) {
    let mut copies = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
        let (near, far) = (near.into_split(), far.into_split());
        copies.spawn(copy(near.0, far.1, stalled.clone()));
        copies.spawn(copy(far.0, near.1, stalled.clone()));
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut stalled: watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
