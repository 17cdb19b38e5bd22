//! A TCP forwarder to a relay. The relay sees its connections come from another address of this machine.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
};

/// Starts a forwarder whose connections come from `address`, and returns its own address.
pub fn from(runtime: &Runtime, address: [u8; 4], relay: SocketAddr) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let here = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((address, 0).into()).unwrap();
                if let Ok(mut far) = socket.connect(relay).await {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    here
}
