//! The socket of a listener, and what all interfaces are on a machine without IPv6.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

/// Listens on `address`. `::`, all interfaces of IPv6, takes IPv4 too; on a machine without IPv6 it is `0.0.0.0`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    or_ipv4(address, bind_queue)
}

/// Tries `0.0.0.0` in place of `::`, if the machine has no IPv6. Any other error is the caller's: a port that IPv6
/// refuses may be free on IPv4, and a server that listened there alone would be missed by half of its clients.
fn or_ipv4<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_without_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// With the longest queue of connections not yet accepted that the system allows (`somaxconn`): a burst of clients, or
/// all of them after a restart, waits there for its turn.
fn bind_queue(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What a former process left in TIME_WAIT must not keep the next one from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // The system lowers it to what it allows.
    socket.listen(i32::MAX.unsigned_abs())
}

/// The kernel knows no IPv6, or no interface has it: `::` itself is the address of every machine that has.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `address` becomes where IPv6 is refused with `refused`.
    fn check(address: &str, refused: Errno) -> Result<String, Errno> {
        let bind = |address: SocketAddr| match address.is_ipv6() {
            true => Err(refused.into()),
            false => Ok(address.to_string()),
        };
        or_ipv4(address.parse().unwrap(), bind).map_err(|error| Errno::from_io_error(&error).unwrap())
    }

    #[test]
    fn all_interfaces_are_those_of_ipv4_only_where_there_is_no_ipv6() {
        for missing in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            assert_eq!(check("[::]:8080", missing), Ok("0.0.0.0:8080".to_owned()));
            assert_eq!(check("[::1]:8080", missing), Err(missing), "one address is not all interfaces");
        }
        for refused in [Errno::ADDRINUSE, Errno::ACCESS, Errno::MFILE, Errno::NOBUFS, Errno::INVAL] {
            assert_eq!(check("[::]:8080", refused), Err(refused));
        }
    }
}
