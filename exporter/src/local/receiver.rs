//! The agent's side.
//!
//! A thread takes connections and one more serves each of them; there are few, and a thread apiece lets one that stalls
//! stall alone. Profiles are decoded one at a time, so that many large ones cost time and not memory. Finished spans go
//! to whom they are for on the thread that read them: they are small and many, and nothing has to wait for the agent's
//! loop.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::LocalError;
use super::frame::{self, Answer, HEADER, Header, Kind};
use super::sink::check_path;
use super::socket::{Peer, Socket, wait};
use crate::pprof::{DecodeLimits, decode_with_limits};
use crate::profile::Profile;

/// Connections at once; services on one machine that profile themselves and hand it over.
const MOST_CONNECTIONS: usize = 64;

/// Profiles that wait for the agent: all of a busy machine's services within one turn of its loop.
const QUEUE: usize = 64;

/// From a message's first byte to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Read at once.
const CHUNK: usize = 64 << 10;

/// What a profile may hold: ten minutes of a large service, a small part of what a file may.
const LIMITS: DecodeLimits = DecodeLimits {
    decompressed_bytes: 128 << 20,
    samples: 500_000,
    locations: 500_000,
    functions: 500_000,
    mappings: 20_000,
    strings: 1_000_000,
    sample_types: 16,
    comments: 1_000,
    side_table_bytes: 8 << 20,
};

/// One profile that somebody handed over.
#[derive(Debug)]
pub struct Received {
    /// The profile. Samples carry the service's name where the sender told it.
    pub profile: Profile,
    /// The resource's attributes, as the sender told them.
    pub resource: Vec<(String, String)>,
    /// Who sent it, as the kernel knows it.
    pub from: Peer,
}

/// Takes finished spans, an OTLP `ExportTraceServiceRequest` of at most [`LARGEST_SPANS`](super::LARGEST_SPANS) bytes,
/// and says whether they could be read. Called on several threads.
pub type TakeSpans = Box<dyn Fn(Vec<u8>) -> bool + Send + Sync>;

/// What a receiver takes; senders of anything else are told that it isn't wanted.
#[derive(Default)]
pub struct Wanted {
    /// Whether it takes profiles.
    pub profiles: bool,
    /// Whom finished spans are for.
    pub spans: Option<TakeSpans>,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounts {
    /// Profiles taken.
    pub taken: u64,
    /// Messages that could not be read; each ended its connection.
    pub malformed: u64,
    /// Profiles for which there was no room, because they were not collected in time.
    pub no_room: u64,
    /// Messages with finished spans taken.
    pub spans_taken: u64,
    /// Messages of a kind that nobody here takes.
    pub unwanted: u64,
    /// Connections of other users, ended at once.
    pub strangers: u64,
    /// Connections over the most that are held, ended at once.
    pub too_many: u64,
}

/// Takes profiles from the processes beside it until it is dropped; then the socket's file is removed.
#[derive(Debug)]
pub struct LocalReceiver {
    path: PathBuf,
    identity: (u64, u64),
    received: Receiver<Received>,
    shared: Arc<Shared>,
    /// Dropping it wakes every thread.
    stop: Option<UnixStream>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    counts: Mutex<ReceiverCounts>,
    wanted: Wanted,
    decoding: Mutex<()>,
    /// Readable once the receiver is dropped.
    stopped: UnixStream,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut ReceiverCounts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl LocalReceiver {
    /// Listens at a path for profiles. A socket that a killed agent left there is replaced; one that is listened on is
    /// not. The file is its owner's alone.
    ///
    /// Errors: [`LocalError`], which says what to change.
    pub fn bind(path: impl Into<PathBuf>) -> Result<LocalReceiver, LocalError> {
        Self::bind_for(path, Wanted { profiles: true, spans: None })
    }

    /// Like [`bind`](Self::bind), for what is wanted.
    ///
    /// Errors: [`LocalError`], which says what to change.
    pub fn bind_for(path: impl Into<PathBuf>, wanted: Wanted) -> Result<LocalReceiver, LocalError> {
        let path = path.into();
        check_path(&path)?;
        make_room(&path)?;
        let io = |source| LocalError::io(&path, source);
        let listener =
            Socket::listen(&path, MOST_CONNECTIONS as i32).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => LocalError::InUse { path: path.clone() },
                _ => io(error),
            })?;
        let metadata = std::fs::symlink_metadata(&path).map_err(io)?;
        let (stop, stopped) = UnixStream::pair().map_err(io)?;
        let (counts, decoding) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { counts, wanted, decoding, stopped });
        let (queue, received) = mpsc::sync_channel(QUEUE);
        let serving = Arc::clone(&shared);
        let accepting = std::thread::Builder::new()
            .name("receiving".into())
            .spawn(move || accept(&listener, &serving, &queue))
            .map_err(io)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(LocalReceiver { path, identity, received, shared, stop: Some(stop), accepting: Some(accepting) })
    }

    /// The next profile, waiting for so long at most.
    pub fn next(&self, timeout: Duration) -> Option<Received> {
        match self.received.recv_timeout(timeout) {
            Ok(received) => Some(received),
            Err(RecvTimeoutError::Timeout) => None,
            // The threads ended on their own; nothing comes any more, and the caller's pace must stay.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::park_timeout(timeout);
                None
            }
        }
    }

    /// What happened since the start.
    pub fn counts(&self) -> ReceiverCounts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all connections and removes the socket's file. What was taken before can still be had.
    pub fn close(&mut self) {
        if self.stop.take().is_none() {
            return;
        }
        // Another agent's socket may have taken the place of ours.
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalReceiver {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes what a killed agent left at the path.
fn make_room(path: &Path) -> Result<(), LocalError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LocalError::io(path, error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(LocalError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match Socket::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| LocalError::io(path, error))
        }
        Ok(_) => Err(LocalError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(LocalError::InUse { path: path.to_owned() })
        }
        Err(error) => Err(LocalError::io(path, error)),
    }
}

fn accept(listener: &Socket, shared: &Arc<Shared>, queue: &SyncSender<Received>) {
    let mut serving: Vec<JoinHandle<()>> = Vec::new();
    loop {
        match wait(&[(listener.as_fd(), libc::POLLIN), (shared.stopped.as_fd(), libc::POLLIN)], None) {
            Ok([_, true]) | Err(_) => break,
            Ok([ready, false]) if !ready => continue,
            Ok(_) => {}
        }
        serving.retain(|thread| !thread.is_finished());
        let socket = match listener.accept() {
            Ok(socket) => socket,
            Err(error) if is_out_of_descriptors(&error) => {
                // The connection stays in the queue; without a pause this would be a busy circle.
                let pause = Instant::now() + Duration::from_millis(100);
                let _ = wait(&[(shared.stopped.as_fd(), libc::POLLIN)], Some(pause));
                continue;
            }
            // The other side was gone again.
            Err(_) => continue,
        };
        match socket.peer() {
            Ok(peer) if !peer.is_trusted() => shared.count(|counts| counts.strangers += 1),
            Ok(_) if serving.len() >= MOST_CONNECTIONS => shared.count(|counts| counts.too_many += 1),
            Ok(peer) => {
                let (shared, queue) = (Arc::clone(shared), queue.clone());
                let connection = Connection { socket, peer, shared, queue };
                // A connection that gets no thread is ended, and its sender told by that.
                let thread = std::thread::Builder::new().name("receiving".into());
                serving.extend(thread.spawn(move || connection.serve()));
            }
            Err(_) => {}
        }
    }
    for thread in serving {
        let _ = thread.join();
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

struct Connection {
    socket: Socket,
    peer: Peer,
    shared: Arc<Shared>,
    queue: SyncSender<Received>,
}

/// Why a connection ends.
enum End {
    /// The other side hung up between two messages, or the receiver is dropped.
    Quiet,
    /// What came is no message, or ends in the midst of one.
    Malformed,
}

/// What a message was.
enum Message {
    Profile(Box<Received>),
    /// They have been taken.
    Spans,
    Unwanted,
}

impl Connection {
    fn serve(self) {
        loop {
            let (answer, goes_on) = match self.message() {
                Ok(Message::Profile(received)) => match self.queue.try_send(*received) {
                    Ok(()) => {
                        self.shared.count(|counts| counts.taken += 1);
                        (Answer::Taken, true)
                    }
                    Err(TrySendError::Full(_)) => {
                        self.shared.count(|counts| counts.no_room += 1);
                        (Answer::Busy, true)
                    }
                    Err(TrySendError::Disconnected(_)) => return,
                },
                Ok(Message::Spans) => {
                    self.shared.count(|counts| counts.spans_taken += 1);
                    (Answer::Taken, true)
                }
                Ok(Message::Unwanted) => {
                    self.shared.count(|counts| counts.unwanted += 1);
                    (Answer::Unwanted, true)
                }
                Err(End::Malformed) => {
                    self.shared.count(|counts| counts.malformed += 1);
                    (Answer::Refused, false)
                }
                Err(End::Quiet) => return,
            };
            let answered = self.socket.send_all(&[answer.byte()], Instant::now() + MESSAGE_TIMEOUT);
            if answered.is_err() || !goes_on {
                return;
            }
        }
    }

    fn message(&self) -> Result<Message, End> {
        // Between two messages there is no hurry: windows are seconds to minutes long.
        let stopped = self.shared.stopped.as_fd();
        match wait(&[(self.socket.as_fd(), libc::POLLIN), (stopped, libc::POLLIN)], None) {
            Ok([_, false]) => {}
            Ok([_, true]) | Err(_) => return Err(End::Quiet),
        }
        let deadline = Instant::now() + MESSAGE_TIMEOUT;
        let mut header = [0; HEADER];
        let first = self.socket.receive(&mut header, deadline).map_err(|_| End::Quiet)?;
        if first == 0 {
            return Err(End::Quiet);
        }
        self.fill(&mut header[first..], deadline)?;
        let header = frame::read_header(&header).map_err(|_| End::Malformed)?;
        match header.kind {
            Kind::Profile => self.profile(header, deadline),
            Kind::Spans => self.spans(header, deadline),
        }
    }

    fn profile(&self, header: Header, deadline: Instant) -> Result<Message, End> {
        let resource = self.bytes(header.resource, deadline)?;
        let resource = frame::resource(&resource).map_err(|_| End::Malformed)?;
        let encoded = self.bytes(header.body, deadline)?;
        if !self.shared.wanted.profiles {
            return Ok(Message::Unwanted);
        }
        let profile = {
            let _turn = self.shared.decoding.lock().unwrap_or_else(PoisonError::into_inner);
            decode_with_limits(&encoded, &LIMITS).map_err(|_| End::Malformed)?
        };
        Ok(Message::Profile(Box::new(Received { profile, resource, from: self.peer })))
    }

    fn spans(&self, header: Header, deadline: Instant) -> Result<Message, End> {
        let request = self.bytes(header.body, deadline)?;
        match &self.shared.wanted.spans {
            None => Ok(Message::Unwanted),
            Some(take) if take(request) => Ok(Message::Spans),
            Some(_) => Err(End::Malformed),
        }
    }

    /// So many bytes; memory grows with what came, not with what was announced.
    fn bytes(&self, length: usize, deadline: Instant) -> Result<Vec<u8>, End> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let (begin, chunk) = (bytes.len(), CHUNK.min(length - bytes.len()));
            bytes.resize(begin + chunk, 0);
            self.fill(&mut bytes[begin..], deadline)?;
        }
        Ok(bytes)
    }

    fn fill(&self, mut into: &mut [u8], deadline: Instant) -> Result<(), End> {
        while !into.is_empty() {
            let ready = [(self.socket.as_fd(), libc::POLLIN), (self.shared.stopped.as_fd(), libc::POLLIN)];
            match wait(&ready, Some(deadline)) {
                Ok([_, true]) | Err(_) => return Err(End::Quiet),
                Ok([false, false]) => return Err(End::Malformed),
                Ok([true, false]) => {}
            }
            match self.socket.receive(into, deadline) {
                Ok(0) | Err(_) => return Err(End::Malformed),
                Ok(received) => into = &mut into[received..],
            }
        }
        Ok(())
    }
}
