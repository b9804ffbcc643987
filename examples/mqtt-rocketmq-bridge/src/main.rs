//! The program: `mqtt-rocketmq-bridge bridge.toml`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use opentelemetry::global;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanprof_mqtt_rocketmq_bridge::bridge;
use spanprof_mqtt_rocketmq_bridge::configuration::Configuration;
use spanprof_mqtt_rocketmq_bridge::span_file::SpanLines;
use spanprof_mqtt_rocketmq_bridge::stop::stop;
use tokio::signal::unix::{SignalKind, signal};

/// Forwards messages from MQTT to RocketMQ, at least once each, within the trace of their device.
#[derive(Debug, Parser)]
#[command(name = "mqtt-rocketmq-bridge", version, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration.
    #[arg(value_name = "BRIDGE.TOML")]
    configuration: PathBuf,
    /// Read and check the configuration, and end.
    #[arg(long)]
    check: bool,
    /// Append a line of JSON for each span to this file.
    #[arg(long, value_name = "FILE")]
    spans: Option<PathBuf>,
}

const EXAMPLES: &str = "\
A whole configuration:
  [mqtt]
  address = \"127.0.0.1:1883\"
  client_id = \"bridge-1\"           # one of its own for each bridge, and for good
  username = \"bridge\"              # optional, with the next line
  password_file = \"mqtt-password\"  # beside this file
  session_expiry = 86400           # seconds that the broker keeps messages for a bridge that is away
  in_flight = 64                   # messages that are with the bridge at a time
  largest_packet = 4194304         # bytes; the broker drops what is larger

  [rocketmq]
  proxy = \"127.0.0.1:8081\"         # gRPC, no TLS
  access_key = \"bridge\"            # optional, with the next line
  secret_key_file = \"rocketmq-key\"

  [[rule]]                         # the first that matches a topic counts
  filter = \"sensors/+/celsius\"
  topic = \"readings\"               # has to be there
  trace_in_json = true             # looks for a `traceparent` in JSON, for devices of MQTT 3.1.1

Examples:
  mqtt-rocketmq-bridge bridge.toml --check
      Say whether the configuration can be used.
  mqtt-rocketmq-bridge bridge.toml
      Bridge until Ctrl-C or SIGTERM.
  mqtt-rocketmq-bridge bridge.toml --spans spans.jsonl
      The same, with its spans in a file.

Exit codes:
  0  done
  1  failed: the MQTT broker refuses the bridge, or something of this machine
  2  wrong usage or configuration";

/// Failed while it ran.
const FAILED: u8 = 1;

/// Could not be started like this.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let configuration = match Configuration::read(&arguments.configuration) {
        Ok(configuration) => configuration,
        Err(error) => {
            eprintln!("bridge: {error}");
            return WRONG.into();
        }
    };
    if arguments.check {
        for rule in &configuration.rules {
            println!("{} -> {}", rule.filter, rule.topic);
        }
        println!("{} can be used", arguments.configuration.display());
        return ExitCode::SUCCESS;
    }
    match run(&configuration, arguments.spans.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bridge: {error}");
            FAILED.into()
        }
    }
}

#[tokio::main]
async fn run(configuration: &Configuration, spans: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    // From here on each thread publishes the message that it works on, for `spanprof attach` beside it.
    let _spanprof = spanprof::Agent::builder().service_name("mqtt-rocketmq-bridge").start()?;
    // Without any processor too, so that messages of devices that send no context have a trace from here on.
    let mut provider = SdkTracerProvider::builder();
    if let Some(path) = spans {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        // Where there is a collector, its exporter goes here.
        provider = provider.with_span_processor(SpanLines::to(file));
    }
    global::set_tracer_provider(provider.build());
    let (stopper, stop) = stop();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.stop();
        // A second one doesn't wait for RocketMQ.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(FAILED.into());
    });
    bridge::run(configuration, stop).await?;
    eprintln!("bridge: stopped; what was not acknowledged stays with the MQTT broker");
    Ok(())
}
