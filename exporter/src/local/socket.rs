//! Unix sockets with deadlines, and who is at the other end.
//!
//! Sockets are non-blocking and waited for by `poll`, so that a deadline holds over a whole message however slowly the
//! other side reads; the timeouts of `std` hold per call only, and its `connect` waits without end where the other side's
//! queue is full. Sends never raise SIGPIPE: in a plug-in of a C program that would end the program.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

/// Who is at the other end of a socket, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The process id, in our namespace; 0 where it can't be seen from here.
    pub pid: i32,
    /// The effective user id when it connected or listened.
    pub uid: u32,
}

impl Peer {
    /// Whether that is the same user or root.
    pub(super) fn is_trusted(self) -> bool {
        // SAFETY: takes nothing and can't fail.
        let own = unsafe { libc::geteuid() };
        self.uid == own || self.uid == 0
    }
}

/// A connected or listening unix stream socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    fn new() -> io::Result<Socket> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers; a descriptor that is given back is ours alone.
        unsafe {
            let descriptor = libc::socket(libc::AF_UNIX, kind, 0);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Socket(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// Connects; never waits. `WouldBlock` where the other side's queue is full.
    pub(super) fn connect(path: &Path) -> io::Result<Socket> {
        let socket = Socket::new()?;
        let (address, length) = address(path)?;
        // SAFETY: the address is initialised and its length is its own.
        let connected = unsafe { libc::connect(socket.raw(), (&raw const address).cast(), length) };
        if connected == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }

    /// Listens at a new path; the socket's file is the owner's alone from its first moment.
    pub(super) fn listen(path: &Path, waiting: i32) -> io::Result<Socket> {
        let socket = Socket::new()?;
        let (address, length) = address(path)?;
        // SAFETY: the descriptor is open, the address is initialised and its length is its own. A unix socket's file
        // gets the mode that the socket has when it is bound.
        let failed = unsafe {
            libc::fchmod(socket.raw(), 0o600) != 0
                || libc::bind(socket.raw(), (&raw const address).cast(), length) != 0
                || libc::listen(socket.raw(), waiting) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// Takes one connection; never waits.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no address is asked for; a descriptor that is given back is ours alone.
        unsafe {
            let descriptor = libc::accept4(self.raw(), std::ptr::null_mut(), std::ptr::null_mut(), flags);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Socket(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the structure is as long as the length says.
        let failed = unsafe {
            let into = (&raw mut credentials).cast();
            libc::getsockopt(self.raw(), libc::SOL_SOCKET, libc::SO_PEERCRED, into, &raw mut length) != 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
        Ok(Peer { pid: credentials.pid, uid: credentials.uid })
    }

    /// Sends all of it.
    ///
    /// Errors: `TimedOut` at the deadline, or what the system says.
    pub(super) fn send_all(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            // SAFETY: the bytes are readable for their length.
            let sent =
                unsafe { libc::send(self.raw(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) => self.after(io::Error::last_os_error(), libc::POLLOUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Receives what is there, at least one byte; 0 at the other side's end.
    ///
    /// Errors: `TimedOut` at the deadline, or what the system says.
    pub(super) fn receive(&self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            // SAFETY: the bytes are writable for their length.
            let received = unsafe { libc::recv(self.raw(), into.as_mut_ptr().cast(), into.len(), 0) };
            match usize::try_from(received) {
                Ok(received) => return Ok(received),
                Err(_) => self.after(io::Error::last_os_error(), libc::POLLIN, deadline)?,
            }
        }
    }

    /// After a call that failed: waits where it would have waited.
    fn after(&self, error: io::Error, events: libc::c_short, deadline: Instant) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => match wait(&[(self.as_fd(), events)], Some(deadline))?[0] {
                true => Ok(()),
                false => Err(io::ErrorKind::TimedOut.into()),
            },
            _ => Err(error),
        }
    }

    fn raw(&self) -> libc::c_int {
        self.0.as_raw_fd()
    }
}

/// Waits until one of a few descriptors is ready or has ended, or the deadline; says which are.
pub(super) fn wait<const COUNT: usize>(
    descriptors: &[(BorrowedFd<'_>, libc::c_short); COUNT],
    deadline: Option<Instant>,
) -> io::Result<[bool; COUNT]> {
    let mut asked = descriptors.map(|(descriptor, events)| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events,
        revents: 0,
    });
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, so that a wait of less than a millisecond is none of zero in a circle.
        let milliseconds =
            left.map_or(-1, |left| i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the structures are as many as is said.
        let ready = unsafe { libc::poll(asked.as_mut_ptr(), COUNT as libc::nfds_t, milliseconds) };
        if ready >= 0 {
            return Ok(asked.map(|asked| asked.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The longest path that fits the kernel's structure, with the byte that ends it.
pub(super) const LONGEST_PATH: usize = size_of::<libc::sockaddr_un>() - size_of::<libc::sa_family_t>() - 1;

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > LONGEST_PATH || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}
