//! The broker: rumqttd inside a process, on MQTT 5 only.
//!
//! It serves no 3.1.1 clients on purpose: rumqttd's writer for them panics at a message with MQTT 5 properties.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::DemoError;

const START_PATIENCE: Duration = Duration::from_secs(10);

/// Starts the broker and returns its address once it accepts connections.
///
/// rumqttd can't be stopped, only left: it ends with the process.
pub(crate) fn start(listen: SocketAddr) -> Result<SocketAddr, DemoError> {
    let address = free_address(listen)?;
    let server = serve(address)?;
    wait_until_open(address, &server)?;
    Ok(address)
}

/// The address itself, or one with a free port: rumqttd doesn't tell which port it was given for 0.
fn free_address(wanted: SocketAddr) -> Result<SocketAddr, DemoError> {
    if wanted.port() != 0 {
        return Ok(wanted);
    }
    TcpListener::bind(wanted)
        .and_then(|listener| listener.local_addr())
        .map_err(|source| DemoError::Network { what: format!("listening on {wanted}"), source })
}

fn serve(address: SocketAddr) -> Result<JoinHandle<Result<(), String>>, DemoError> {
    let mut broker = rumqttd::Broker::new(configure(address));
    let server = std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || broker.start().map_err(|error| error.to_string()))?;
    Ok(server)
}

fn configure(address: SocketAddr) -> rumqttd::Config {
    let server = rumqttd::ServerSettings {
        name: "mqtt5".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: 64 * 1024,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    rumqttd::Config {
        router: rumqttd::RouterConfig {
            max_connections: 64,
            max_outgoing_packet_count: 200,
            max_segment_size: 1024 * 1024,
            max_segment_count: 10,
            ..rumqttd::RouterConfig::default()
        },
        v5: Some(HashMap::from([("mqtt5".to_owned(), server)])),
        ..rumqttd::Config::default()
    }
}

/// Tries to connect until the broker accepts, ends, or takes too long.
fn wait_until_open(address: SocketAddr, server: &JoinHandle<Result<(), String>>) -> Result<(), DemoError> {
    let end = Instant::now() + START_PATIENCE;
    loop {
        if server.is_finished() {
            return Err(DemoError::Broker { address, reason: "it ended at once".to_owned() });
        }
        match TcpStream::connect_timeout(&address, START_PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= end => {
                return Err(DemoError::Broker { address, reason: error.to_string() });
            }
            // Refused: the only event to wait for is that it is not any more.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
