//! The configuration: a TOML file, read into types that are right.
//!
//! All that can be seen to be wrong without a broker is seen here, and said in one sentence with the file and what to
//! do.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::filter::{Filter, FilterError};

/// Longer than any configuration that a person wrote.
const LARGEST_FILE: u64 = 1 << 20;

/// RocketMQ's longest name of a topic.
const LONGEST_TOPIC: usize = 127;

/// What the bridge does.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where devices publish.
    pub mqtt: Mqtt,
    /// Where their messages go.
    pub rocketmq: RocketMq,
    /// Which go where; of those that match a topic, the first counts.
    pub rules: Vec<Rule>,
}

/// The MQTT side.
#[derive(Clone, Debug)]
pub struct Mqtt {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Names the session that the broker keeps for the bridge: each bridge has one of its own, for good.
    pub client_id: String,
    /// User and password, where the broker wants them.
    pub login: Option<Login>,
    /// How long the broker keeps messages for a bridge that is away, in seconds.
    pub session_expiry: u32,
    /// How many messages are with the bridge at most.
    pub in_flight: u16,
    /// The largest packet that the broker may send, in bytes.
    pub largest_packet: u32,
}

/// The RocketMQ side.
#[derive(Clone, Debug)]
pub struct RocketMq {
    /// The proxy's gRPC endpoint: host and port.
    pub proxy: String,
    /// Access key and secret key, where the proxy wants them.
    pub login: Option<Login>,
}

/// Who the bridge is to a broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user, or the access key.
    pub user: String,
    /// The password, or the secret key.
    pub secret: String,
}

/// Without the secret.
impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Messages on some MQTT topics go to a topic of RocketMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which MQTT topics.
    pub filter: Filter,
    /// Which topic of RocketMQ. It has to be there.
    pub topic: String,
    /// Whether payloads are looked at for a trace context, if user properties have none: for devices of MQTT 3.1.1
    /// that put it into their JSON.
    pub trace_in_json: bool,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file, or one that it names, can't be read.
    #[error("{} cannot be read: {source}; give a file that is there", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has more than 1 MiB; give the bridge's configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is no TOML, or has keys or types that there are not.
    #[error("{}, line {line}: {reason}; `--help` shows a whole configuration", path.display())]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A value that can't be.
    #[error("{}: {fault}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing would be forwarded.
    #[error("there is no rule; add `[[rule]]` with a `filter` and a `topic`")]
    NoRule,
    /// No MQTT topic filter.
    #[error(
        "`{filter}` is no MQTT topic filter: {reason}; write one such as `sensors/+/celsius` or `alarms/#`"
    )]
    Filter {
        /// What was written.
        filter: String,
        /// Why.
        reason: FilterError,
    },
    /// The second rule would never count.
    #[error("two rules have the filter `{filter}`; remove one, as the first alone would count")]
    SameFilter {
        /// What was written.
        filter: String,
    },
    /// No topic of RocketMQ.
    #[error("`{topic}` is no topic of RocketMQ; write 1 to 127 letters, digits, `_`, `-`, `%` or `|`")]
    Topic {
        /// What was written.
        topic: String,
    },
    /// No host and port.
    #[error("`{key} = \"{address}\"` is no address; write host and port, such as `127.0.0.1:1883`")]
    Address {
        /// Whose.
        key: &'static str,
        /// What was written.
        address: String,
    },
    /// The broker would make up an id, and with it a session that is lost at the next start.
    #[error(
        "`mqtt.client_id` has to be 1 to 256 bytes without control characters; write a name that no other client has"
    )]
    ClientId,
    /// A number that can't be.
    #[error("`{key} = {number}` is out of range; write {least} to {most}")]
    Range {
        /// Which.
        key: &'static str,
        /// What was written.
        number: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Half a login.
    #[error("`{first}` and `{second}` belong together; write both or neither")]
    Half {
        /// The one key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mqtt: MqttTable,
    rocketmq: RocketMqTable,
    #[serde(default)]
    rule: Vec<RuleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MqttTable {
    address: String,
    client_id: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default = "a_day")]
    session_expiry: u64,
    #[serde(default = "some_in_flight")]
    in_flight: u64,
    #[serde(default = "four_mebibytes")]
    largest_packet: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RocketMqTable {
    proxy: String,
    access_key: Option<String>,
    secret_key_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    filter: String,
    topic: String,
    #[serde(default)]
    trace_in_json: bool,
}

const fn a_day() -> u64 {
    24 * 60 * 60
}

const fn some_in_flight() -> u64 {
    64
}

/// What a broker of RocketMQ takes unless it is told otherwise.
const fn four_mebibytes() -> u64 {
    4 << 20
}

impl Configuration {
    /// Reads and checks a file; paths in it are relative to its folder.
    ///
    /// # Errors
    /// Where it can't be read or used.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let text = read(path)?;
        let file: File = toml::from_str(&text).map_err(|error| ConfigurationError::NotUnderstood {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            reason: error.message().replace('\n', ", "),
        })?;
        let secret = |file: &Path| read(&path.parent().unwrap_or(Path::new("")).join(file));
        let wrong = |fault| ConfigurationError::Wrong { path: path.to_owned(), fault };
        let (host, port) = address("mqtt.address", &file.mqtt.address).map_err(wrong)?;
        address("rocketmq.proxy", &file.rocketmq.proxy).map_err(wrong)?;
        let mqtt_login =
            half("mqtt.username", file.mqtt.username, "mqtt.password_file", file.mqtt.password_file);
        let rocketmq_login = half(
            "rocketmq.access_key",
            file.rocketmq.access_key,
            "rocketmq.secret_key_file",
            file.rocketmq.secret_key_file,
        );
        Ok(Self {
            mqtt: Mqtt {
                host,
                port,
                client_id: client_id(file.mqtt.client_id).map_err(wrong)?,
                login: mqtt_login.map_err(wrong)?.map(|half| half.whole(secret)).transpose()?,
                session_expiry: number("mqtt.session_expiry", file.mqtt.session_expiry, 60, u32::MAX.into())
                    .map_err(wrong)?,
                in_flight: number("mqtt.in_flight", file.mqtt.in_flight, 1, 4_096).map_err(wrong)?,
                largest_packet: number("mqtt.largest_packet", file.mqtt.largest_packet, 1_024, 64 << 20)
                    .map_err(wrong)?,
            },
            rocketmq: RocketMq {
                proxy: file.rocketmq.proxy,
                login: rocketmq_login.map_err(wrong)?.map(|half| half.whole(secret)).transpose()?,
            },
            rules: rules(file.rule).map_err(wrong)?,
        })
    }
}

fn read(path: &Path) -> Result<String, ConfigurationError> {
    let unreadable = |source| ConfigurationError::Unreadable { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err(ConfigurationError::TooLarge { path: path.to_owned() });
    }
    fs::read_to_string(path).map_err(unreadable)
}

fn address(key: &'static str, text: &str) -> Result<(String, u16), Fault> {
    let is_host =
        |host: &&str| !host.is_empty() && !host.contains(['/', '@']) && !host.contains(char::is_whitespace);
    text.rsplit_once(':')
        .filter(|(host, _)| is_host(host))
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok().filter(|port| *port != 0)?)))
        .ok_or_else(|| Fault::Address { key, address: text.to_owned() })
}

fn client_id(id: String) -> Result<String, Fault> {
    let is_right = (1..=256).contains(&id.len()) && !id.contains(char::is_control);
    if is_right { Ok(id) } else { Err(Fault::ClientId) }
}

fn number<T: TryFrom<u64>>(key: &'static str, number: u64, least: u64, most: u64) -> Result<T, Fault> {
    let in_range = T::try_from(number).ok().filter(|_| (least..=most).contains(&number));
    in_range.ok_or(Fault::Range { key, number, least, most })
}

/// A user, and the file that has the secret.
struct HalfLogin(String, PathBuf);

fn half(
    first: &'static str,
    user: Option<String>,
    second: &'static str,
    file: Option<PathBuf>,
) -> Result<Option<HalfLogin>, Fault> {
    match (user, file) {
        (None, None) => Ok(None),
        (Some(user), Some(file)) => Ok(Some(HalfLogin(user, file))),
        _ => Err(Fault::Half { first, second }),
    }
}

impl HalfLogin {
    fn whole(
        self,
        secret: impl FnOnce(&Path) -> Result<String, ConfigurationError>,
    ) -> Result<Login, ConfigurationError> {
        let Self(user, file) = self;
        let secret = secret(&file)?.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Login { user, secret })
    }
}

fn rules(tables: Vec<RuleTable>) -> Result<Vec<Rule>, Fault> {
    if tables.is_empty() {
        return Err(Fault::NoRule);
    }
    let mut filters = HashSet::new();
    let check = |table: RuleTable| {
        let filter = table.filter;
        let filter = filter.parse::<Filter>().map_err(|reason| Fault::Filter { filter, reason })?;
        if !filters.insert(filter.clone()) {
            return Err(Fault::SameFilter { filter: filter.to_string() });
        }
        let of_name = |letter: char| letter.is_ascii_alphanumeric() || "_-%|".contains(letter);
        if !(1..=LONGEST_TOPIC).contains(&table.topic.len()) || !table.topic.chars().all(of_name) {
            return Err(Fault::Topic { topic: table.topic });
        }
        Ok(Rule { filter, topic: table.topic, trace_in_json: table.trace_in_json })
    };
    tables.into_iter().map(check).collect()
}
