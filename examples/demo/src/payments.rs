//! Payments: a service behind a socket, and the blocking call of it.
//!
//! The service runs in threads of the consumer's process on a port of its own, so that the demo needs no fourth
//! process. A request is the number of milliseconds that the answer shall take, four bytes; the answer is one byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::error::DemoError;
use crate::orders::Order;
use crate::story::Cause;

/// How long the service takes over an ordinary order.
const ORDINARY: Duration = Duration::from_micros(500);
/// No side waits longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the payment service and returns its address. It ends with the process.
pub fn start_payment_service() -> Result<SocketAddr, DemoError> {
    let network = |source| DemoError::Network { what: "listening as the payment service".to_owned(), source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(network)?;
    let address = listener.local_addr().map_err(network)?;
    std::thread::Builder::new().name("payment-service".to_owned()).spawn(move || {
        for connection in listener.incoming().flatten() {
            // A connection for which there is no thread is closed, which its client reports.
            let _ = std::thread::Builder::new()
                .name("payment-teller".to_owned())
                .spawn(move || serve_payment(connection));
        }
    })?;
    Ok(address)
}

/// Serves one request; a client that misbehaves loses its connection.
fn serve_payment(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut microseconds = [0; 4];
    connection.read_exact(&mut microseconds)?;
    let thinking = Duration::from_micros(u64::from(u32::from_le_bytes(microseconds)));
    std::thread::sleep(thinking.min(PATIENCE / 2));
    connection.write_all(b"y")
}

/// Asks whether the order is paid for; the slow kind waits for the answer in here.
///
/// Errors when the service can't be reached or doesn't answer.
#[inline(never)]
pub fn ask_payment_service(service: SocketAddr, order: &Order) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&service, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let thinking = ORDINARY.max(order.trouble_for(Cause::Socket));
    connection.write_all(&(thinking.as_micros() as u32).to_le_bytes())?;
    let mut answer = [0];
    connection.read_exact(&mut answer)?;
    Ok(answer == *b"y")
}
