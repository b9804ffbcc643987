//! The broker, whichever it is, as a process of its own.

use std::net::SocketAddr;

use crate::ending::Ending;
use crate::error::DemoError;
use crate::transport::Transport;
#[cfg(feature = "kafka")]
use crate::transport::kafka;
use crate::transport::mqtt;
#[cfg(feature = "rocketmq")]
use crate::transport::rocketmq;

/// How the broker runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Which broker.
    #[arg(long, value_enum, default_value_t = Transport::Mqtt)]
    pub transport: Transport,
    /// Where to listen; port 0 takes a free one. The official brokers take free ones in any case.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Ends after so many seconds, if no signal came before.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// Runs the broker until its time is over or a signal comes; `ready` is told the address once clients can use it.
///
/// The MQTT broker can't be stopped, only left: the process is expected to end soon after this returns.
pub fn run(config: &Config, ready: impl FnOnce(SocketAddr)) -> Result<(), DemoError> {
    match config.transport {
        Transport::Mqtt => {
            let address = mqtt::broker::start(config.listen)?;
            hold(config.seconds, || ready(address))
        }
        #[cfg(feature = "rocketmq")]
        Transport::RocketMq => {
            let (_broker, address) = rocketmq::start()?;
            hold(config.seconds, || ready(address))
        }
        #[cfg(feature = "kafka")]
        Transport::Kafka => {
            let (_broker, address) = kafka::start()?;
            hold(config.seconds, || ready(address))
        }
    }
}

/// Waits until the process shall end. Signals are taken over from here on: one that comes while a broker is starting
/// ends the process at once, and the broker with it.
fn hold(seconds: u64, ready: impl FnOnce()) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ending = Ending::after(seconds)?;
        ready();
        ending.wait().await;
        Ok(())
    })
}
