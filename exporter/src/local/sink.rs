//! The sender's side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::frame::{Answer, head_of_profile, head_of_spans};
use super::socket::{LONGEST_PATH, Socket};
use super::{LARGEST_PROFILE, LARGEST_SPANS, LocalError};
use crate::pprof::{encode, encode_of_service};
use crate::profile::{Profile, label};

/// Hands profiles and finished spans to a local agent. Holds one connection and makes it anew when it broke: an agent
/// may start later than the service and be restarted at any time.
#[derive(Debug)]
pub struct LocalSink {
    path: PathBuf,
    connection: Option<Socket>,
}

/// What an attempt came to.
enum Attempt {
    Answered(Answer),
    /// The connection broke before the whole message was in it: the agent can't have taken it.
    NotSent(io::Error),
}

impl LocalSink {
    /// A sink for the agent that listens at a path, now or later. Nothing is opened yet.
    ///
    /// Errors: [`LocalError::BadPath`].
    pub fn new(path: impl Into<PathBuf>) -> Result<LocalSink, LocalError> {
        let path = path.into();
        check_path(&path)?;
        Ok(LocalSink { path, connection: None })
    }

    /// Sends one profile with its resource's attributes and waits for the answer, until the deadline at most; gives the
    /// bytes that were sent. Samples that name no service get the resource's.
    ///
    /// Errors: [`LocalError`]; then the profile is lost, and the next call begins with a new connection.
    pub fn send(
        &mut self,
        profile: &Profile,
        resource: &[(String, String)],
        deadline: Instant,
    ) -> Result<u64, LocalError> {
        let service = resource.iter().find(|(key, _)| key == label::SERVICE_NAME);
        let encoded = match service {
            Some((_, service)) => encode_of_service(profile, service),
            None => encode(profile),
        };
        if encoded.len() > LARGEST_PROFILE {
            return Err(LocalError::TooLarge { bytes: encoded.len() });
        }
        self.deliver(&head_of_profile(resource, encoded.len()), &encoded, deadline)
    }

    /// Sends finished spans, an OTLP `ExportTraceServiceRequest`, and waits for the answer, until the deadline at most;
    /// gives the bytes that were sent.
    ///
    /// Errors: [`LocalError`]; then these spans are lost, and the next call begins with a new connection.
    pub fn send_spans(&mut self, request: &[u8], deadline: Instant) -> Result<u64, LocalError> {
        if request.len() > LARGEST_SPANS {
            return Err(LocalError::TooLarge { bytes: request.len() });
        }
        self.deliver(&head_of_spans(request.len()), request, deadline)
    }

    fn deliver(&mut self, head: &[u8], body: &[u8], deadline: Instant) -> Result<u64, LocalError> {
        // A connection that was kept may have ended since; then, and only then, a new one is worth a try.
        let kept = self.connection.take();
        let was_kept = kept.is_some();
        let socket = kept.map_or_else(|| self.connect(), Ok)?;
        let (socket, attempt) = match self.attempt(&socket, head, body, deadline)? {
            Attempt::NotSent(_) if was_kept => {
                let socket = self.connect()?;
                let attempt = self.attempt(&socket, head, body, deadline)?;
                (socket, attempt)
            }
            attempt => (socket, attempt),
        };
        match attempt {
            Attempt::Answered(Answer::Taken) => {
                self.connection = Some(socket);
                Ok((head.len() + body.len()) as u64)
            }
            Attempt::Answered(Answer::Unwanted) => {
                self.connection = Some(socket);
                Err(LocalError::Unwanted)
            }
            Attempt::Answered(Answer::Busy) => {
                self.connection = Some(socket);
                Err(LocalError::Busy)
            }
            Attempt::Answered(Answer::Refused) => Err(LocalError::Refused),
            Attempt::NotSent(error) if error.kind() == io::ErrorKind::TimedOut => Err(LocalError::TimedOut),
            Attempt::NotSent(error) => Err(LocalError::io(&self.path, error)),
        }
    }

    fn connect(&self) -> Result<Socket, LocalError> {
        let path = || self.path.clone();
        let socket = Socket::connect(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LocalError::NobodyListens { path: path() }
            }
            io::ErrorKind::WouldBlock => LocalError::Busy,
            _ => LocalError::io(&self.path, error),
        })?;
        // Whoever listens gets the service's profile or spans: a path that others may write to must not be enough.
        let peer = socket.peer().map_err(|error| LocalError::io(&self.path, error))?;
        match peer.is_trusted() {
            true => Ok(socket),
            false => Err(LocalError::Stranger { path: path(), uid: peer.uid }),
        }
    }

    fn attempt(
        &self,
        socket: &Socket,
        head: &[u8],
        body: &[u8],
        deadline: Instant,
    ) -> Result<Attempt, LocalError> {
        let sent = socket.send_all(head, deadline).and_then(|()| socket.send_all(body, deadline));
        let mut answer = [0];
        let received = match &sent {
            Ok(()) => socket.receive(&mut answer, deadline),
            // An agent that refused the beginning may have said so before it hung up.
            Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                socket.receive(&mut answer, Instant::now())
            }
            Err(_) => Ok(0),
        };
        match (sent, received) {
            (_, Ok(1)) => match Answer::of(answer[0]) {
                Some(answer) => Ok(Attempt::Answered(answer)),
                None => Err(LocalError::NotOurs { path: self.path.clone() }),
            },
            (Err(error), _) => Ok(Attempt::NotSent(error)),
            // Whether it was taken before the connection ended can't be known.
            (Ok(()), Ok(_)) => Err(LocalError::io(&self.path, io::ErrorKind::UnexpectedEof.into())),
            (Ok(()), Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(LocalError::TimedOut),
            (Ok(()), Err(error)) => Err(LocalError::io(&self.path, error)),
        }
    }
}

/// Whether a path can name a socket.
pub(super) fn check_path(path: &Path) -> Result<(), LocalError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let reason = match bytes.len() {
        0 => "it is empty",
        length if length > LONGEST_PATH => "it is longer than 107 bytes",
        _ if bytes.contains(&0) => "it holds a zero byte",
        _ => return Ok(()),
    };
    Err(LocalError::BadPath { path: path.to_owned(), reason })
}
