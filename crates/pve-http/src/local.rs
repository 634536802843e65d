//! Ports of this node's own guests and consoles.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::TcpStream;

/// Connects to a port on the site's loopback address; where that is the machine's own, either family may be the one in
/// use.
pub(crate) async fn connect(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = match TcpStream::connect((address, port)).await {
        Err(error) if address == IpAddr::V4(Ipv4Addr::LOCALHOST) => TcpStream::connect((Ipv6Addr::LOCALHOST, port))
            .await
            .map_err(|_| error)?,
        other => other?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
