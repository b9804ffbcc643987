//! One run: messages on a topic, a consumer, the agent attached to it.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rocketmq::conf::{ClientOption, ProducerOption};
use rocketmq::model::message::{Message, MessageBuilder};
use spanprof_brokers::{RocketMq, TopicKind};
use spanprof_exporter::{Profile, pprof};
use spanprof_messaging::TRACEPARENT;
use spanprof_slow_messages::{Truth, context};
use tokio::task::JoinSet;

use crate::program::Program;

/// What is run.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    pub(crate) broker: &'a RocketMq,
    pub(crate) topic: &'a str,
    pub(crate) messages: u32,
    /// How long the agent's windows are, in seconds.
    pub(crate) window: &'a str,
    /// Whether finished spans are told to the agent.
    pub(crate) told: bool,
    pub(crate) spanprof: &'a Path,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What the consumer knows.
    pub(crate) truth: Truth,
    /// What the agent wrote, window by window.
    pub(crate) windows: Vec<Profile>,
}

impl Course<'_> {
    pub(crate) fn run(&self) -> Seen {
        self.broker.topic(self.topic, TopicKind::Normal, 4).expect("the topic is made");
        self.broker.group(self.topic, 3).expect("the group is made");
        produce(self.broker.proxy(), self.topic, self.messages);
        // On a disk, which a directory for temporary files need not be.
        let own = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
        let written = tempfile::tempdir().expect("a directory is made");
        let mut consumer = Consumer::start(self, own.path());
        let (pid, directory) = (consumer.child.id().to_string(), written.path().to_string_lossy());
        let mut arguments = vec!["attach", "--pid", &pid, "--dir", &directory, "--window", self.window];
        if self.told {
            arguments.extend(["--otlp-listen", "127.0.0.1:0"]);
        }
        let mut agent = Program::start(self.spanprof, &arguments);
        let address = self.told.then(|| agent.wait_for("taking finished spans by OTLP on "));
        let address = address.as_deref().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        agent.wait_for("attached to 1 process");
        consumer.begin(address);
        consumer.wait_for("done");
        eprint!("{}", agent.end());
        let truth = Truth::read(&own.path().join("truth.jsonl")).expect("the consumer told the truth");
        assert_eq!(truth.messages.len(), self.messages as usize, "every message was handled once");
        Seen { truth, windows: windows(written.path()) }
    }
}

/// The consumer's process; it is killed when dropped.
struct Consumer {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Consumer {
    /// Returns when it is ready to be told to begin.
    fn start(course: &Course<'_>, directory: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_slow_consumer"))
            .args([course.broker.proxy(), course.topic, &course.messages.to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("the consumer starts");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut consumer = Self { child, said };
        consumer.wait_for("ready");
        consumer
    }

    fn begin(&mut self, address: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{address}").expect("it waits for this line");
    }

    fn wait_for(&mut self, word: &str) {
        let found = self.said.by_ref().map_while(Result::ok).any(|line| line == word);
        assert!(found, "the consumer ended before it said {word:?}");
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent's windows.
fn windows(directory: &Path) -> Vec<Profile> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("it is there")
        .map(|file| file.expect("it can be read").path())
        .collect();
    files.sort();
    let decode = |file: &std::path::PathBuf| pprof::decode(&fs::read(file).expect("a window"));
    files.iter().map(|file| decode(file).expect("pprof")).collect()
}

const PRODUCERS: u32 = 4;

/// Sends messages in batches, each with its number and in a trace of its own.
fn produce(proxy: &str, topic: &str, messages: u32) {
    block_on(async {
        let mut option = ProducerOption::default();
        option.set_topics(vec![topic]);
        let mut of_broker = ClientOption::default();
        of_broker.set_access_url(proxy);
        of_broker.set_timeout(Duration::from_secs(30));
        let mut client = rocketmq::Producer::new(option, of_broker).expect("the option is whole");
        client.start().await.expect("the producer starts");
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        for task in 0..PRODUCERS {
            let (client, topic) = (Arc::clone(&client), topic.to_owned());
            tasks.spawn(async move {
                let numbers: Vec<u32> = (task..messages).step_by(PRODUCERS as usize).collect();
                for batch in numbers.chunks(32) {
                    let batch = batch.iter().map(|number| message(&topic, *number)).collect();
                    client.batch_send(batch).await.expect("the broker takes it");
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("all were sent");
        }
    });
}

fn message(topic: &str, number: u32) -> impl Message + use<> {
    let context = context(number).to_traceparent();
    let message = MessageBuilder::builder()
        .set_topic(topic)
        .set_tag("placed")
        .set_body(number.to_be_bytes().to_vec())
        .set_properties(HashMap::from([(TRACEPARENT, context.as_str())]))
        .build();
    message.expect("the message is whole")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be had").block_on(work)
}
