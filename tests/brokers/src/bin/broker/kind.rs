//! The brokers behind one face: started, described, asked by words.

use spanprof_brokers::{
    Kafka, Mosquitto, Nats, Ports, RocketMq, RocketMqOptions, RocketMqVersion, StartError, TopicKind,
};

use crate::Failure;

/// The name of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    RocketMq,
    OldRocketMq,
    Kafka,
    Mosquitto,
    Nats,
}

impl Which {
    pub(crate) const ALL: [Self; 5] =
        [Self::RocketMq, Self::OldRocketMq, Self::Kafka, Self::Mosquitto, Self::Nats];

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RocketMq => "rocketmq",
            Self::OldRocketMq => "rocketmq-old",
            Self::Kafka => "kafka",
            Self::Mosquitto => "mosquitto",
            Self::Nats => "nats",
        }
    }

    /// Whether a broker could understand a request for a topic or a group; otherwise what is wrong with it.
    pub(crate) fn check(self, subject: &str, words: &[&str]) -> Result<(), String> {
        let understood = match (self, subject) {
            (Self::RocketMq | Self::OldRocketMq, "topic") => RocketTopic::of(words).is_some(),
            (Self::RocketMq | Self::OldRocketMq, "group") => RocketGroup::of(words).is_some(),
            (Self::Kafka, "topic") => kafka_topic(words).is_some(),
            _ => return Err(format!("{} makes no {subject} beforehand", self.name())),
        };
        if understood {
            Ok(())
        } else {
            Err(format!("not a {subject} of {}: {}", self.name(), words.join(" ")))
        }
    }
}

/// A running broker.
pub(crate) enum Kind {
    RocketMq(RocketMq),
    Kafka(Kafka),
    Mosquitto(Mosquitto),
    Nats(Nats),
}

impl Kind {
    pub(crate) fn start(which: Which) -> Result<Self, Failure> {
        let rocketmq = |version| RocketMq::start_with(RocketMqOptions { version, ports: Ports::Usual });
        Ok(match which {
            Which::RocketMq => Self::RocketMq(rocketmq(RocketMqVersion::Newest)?),
            Which::OldRocketMq => Self::RocketMq(rocketmq(RocketMqVersion::CopiesWrapperProperties)?),
            Which::Kafka => Self::Kafka(Kafka::start_on(Ports::Usual)?),
            Which::Mosquitto => Self::Mosquitto(Mosquitto::start_on(Ports::Usual)?),
            Which::Nats => Self::Nats(Nats::start_on(Ports::Usual)?),
        })
    }

    pub(crate) fn fetch(which: Which) -> Result<(), Failure> {
        Ok(match which {
            Which::RocketMq => RocketMqVersion::Newest.fetch(),
            Which::OldRocketMq => RocketMqVersion::CopiesWrapperProperties.fetch(),
            Which::Kafka => Kafka::fetch(),
            Which::Mosquitto => Mosquitto::fetch(),
            Which::Nats => Nats::fetch(),
        }?)
    }

    /// Where it is, a line each.
    pub(crate) fn describe(&self) -> String {
        let (title, places, process, directory) = match self {
            Self::RocketMq(broker) => (
                format!("RocketMQ {}", broker.version().number()),
                vec![("name server", broker.name_server()), ("proxy (gRPC, no TLS)", broker.proxy())],
                broker.process_id(),
                broker.directory(),
            ),
            Self::Kafka(broker) => (
                format!("Kafka {}", Kafka::VERSION),
                vec![("bootstrap servers", broker.bootstrap_servers())],
                broker.process_id(),
                broker.directory(),
            ),
            Self::Mosquitto(broker) => (
                "mosquitto".to_owned(),
                vec![("address", broker.address())],
                broker.process_id(),
                broker.directory(),
            ),
            Self::Nats(broker) => (
                "NATS".to_owned(),
                vec![("address", broker.address())],
                broker.process_id(),
                broker.directory(),
            ),
        };
        let mut text = format!("{title} runs\n");
        for (name, address) in places {
            text += &format!("  {name:<22}{address}\n");
        }
        text + &format!("  {:<22}{process}\n  {:<22}{}\n", "process", "directory", directory.display())
    }

    /// Makes what the words ask for.
    pub(crate) fn make(&self, words: &[&str]) -> Result<(), String> {
        let not_understood = || format!("not understood: {}", words.join(" "));
        match (self, words) {
            (Self::RocketMq(broker), ["topic", rest @ ..]) => {
                let topic = RocketTopic::of(rest).ok_or_else(not_understood)?;
                broker.topic(topic.name, topic.kind, topic.queues).map_err(|error| error.to_string())
            }
            (Self::RocketMq(broker), ["group", rest @ ..]) => {
                let group = RocketGroup::of(rest).ok_or_else(not_understood)?;
                let made = match group.orderly {
                    true => broker.orderly_group(group.name, group.retries),
                    false => broker.group(group.name, group.retries),
                };
                made.map_err(|error| error.to_string())
            }
            (Self::Kafka(broker), ["topic", rest @ ..]) => {
                let (name, partitions) = kafka_topic(rest).ok_or_else(not_understood)?;
                broker.topic(name, partitions).map_err(|error| error.to_string())
            }
            _ => Err(not_understood()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::NotHere(_) => Self::NOT_HERE,
            StartError::Failed { .. } => Self::FAILED,
        };
        Self::new(code, error.to_string())
    }
}

struct RocketTopic<'a> {
    name: &'a str,
    kind: TopicKind,
    queues: u32,
}

impl<'a> RocketTopic<'a> {
    fn of(words: &[&'a str]) -> Option<Self> {
        let (name, kind, queues) = match *words {
            [name] => (name, "normal", "4"),
            [name, kind] => (name, kind, "4"),
            [name, kind, queues] => (name, kind, queues),
            _ => return None,
        };
        let kind = match kind {
            "normal" => TopicKind::Normal,
            "fifo" => TopicKind::Fifo,
            "delay" => TopicKind::Delay,
            "transaction" => TopicKind::Transaction,
            _ => return None,
        };
        Some(Self { name, kind, queues: queues.parse().ok()? })
    }
}

struct RocketGroup<'a> {
    name: &'a str,
    retries: u32,
    orderly: bool,
}

impl<'a> RocketGroup<'a> {
    fn of(words: &[&'a str]) -> Option<Self> {
        let (name, retries, orderly) = match *words {
            [name] => (name, "16", false),
            [name, retries] => (name, retries, false),
            [name, retries, "orderly"] => (name, retries, true),
            _ => return None,
        };
        Some(Self { name, retries: retries.parse().ok()?, orderly })
    }
}

fn kafka_topic<'a>(words: &[&'a str]) -> Option<(&'a str, u32)> {
    match *words {
        [name] => Some((name, 4)),
        [name, partitions] => Some((name, partitions.parse().ok()?)),
        _ => None,
    }
}
