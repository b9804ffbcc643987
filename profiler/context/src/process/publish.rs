//! The publisher: one process context per process.
//!
//! Fork: the mapping is not inherited (`MADV_DONTFORK`), so that a child is never taken for its parent. A child publishes
//! by itself ([`publish`]), or from its first moment on where the parent wanted that ([`publish_across_forks`]). What it
//! inherited of the parent's bookkeeping is recognised by the process id and left alone.

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::across_forks::{self, ID_LENGTH};
use super::{
    HEADER_SIZE, KEY_MAP_ATTRIBUTE, MAXIMUM_PAYLOAD_SIZE, MODULE_ATTRIBUTE, MODULE_OFFSET_ATTRIBUTE,
    OFFSET_ATTRIBUTE, ProcessContext, SCHEMA_ATTRIBUTE, SEQUENCE_ATTRIBUTE, SIGNATURE, VERSION,
    WRITTEN_SCHEMA, wire, written_key_map,
};
use crate::locate::own::{self, OwnSlot};

/// Why a process context was not published.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The encoded context is larger than what readers accept.
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The kernel refused the mapping or both ways of naming it.
    Mapping(io::Error),
}

impl std::fmt::Display for PublishError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { size } => {
                write!(
                    formatter,
                    "the process context takes {size} bytes; readers accept {MAXIMUM_PAYLOAD_SIZE}"
                )
            }
            Self::Mapping(error) => {
                write!(formatter, "the process context's mapping cannot be made: {error}")
            }
        }
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Mapping(error) => Some(error),
        }
    }
}

#[repr(C)]
pub(super) struct Header {
    signature: [u8; 8],
    version: u32,
    payload_size: AtomicU32,
    published_at: AtomicU64,
    payload: AtomicU64,
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_SIZE);
    assert!(std::mem::offset_of!(Header, payload_size) == 12);
    assert!(std::mem::offset_of!(Header, published_at) == 16);
    assert!(std::mem::offset_of!(Header, payload) == 24);
};

pub(super) struct Published {
    pub(super) header: *mut Header,
    /// What the header points to.
    pub(super) payload: Box<[u8]>,
    pub(super) process: u32,
    /// Whether children publish the same, and where in the payload the id stands that they replace by one of their own.
    pub(super) own_id: Option<Option<usize>>,
}

// SAFETY: the mapping belongs to the process, not to a thread; the lock around it admits one at a time.
unsafe impl Send for Published {}

/// Publishes a context for this process, or replaces the one published before.
///
/// The `threadlocal.*` attributes and our own ones that describe the thread records are added. Whoever has the same
/// rights over the process as a debugger can read it. Takes a lock and, in a library, starts a thread for a moment; meant
/// for start-up. A child of `fork` publishes nothing until it calls this itself.
///
/// Errors: a context that is too large, or a kernel that refuses the mapping. Nothing else changes then.
pub fn publish(context: &ProcessContext) -> Result<(), PublishError> {
    publish_encoded(encode(context)?, None)
}

/// Like [`publish`], and each child of `fork` publishes the same, from its first moment on, for itself: where `own_id`, a
/// UUID, stands in the context, as the `service.instance.id` mostly, a child has a random one of its own instead.
///
/// Costs a child seven system calls, some ten microseconds. Where processes are started by `posix_spawn` or `vfork`, as
/// [`std::process::Command`] does as a rule, nothing of this happens. A child that is forked at the very moment in which
/// another thread publishes has nothing published, as have children of children that were made by `clone` directly.
///
/// Errors: as for [`publish`].
pub fn publish_across_forks(context: &ProcessContext, own_id: &str) -> Result<(), PublishError> {
    let payload = encode(context)?;
    let place = match own_id.len() {
        ID_LENGTH => payload.windows(ID_LENGTH).position(|window| window == own_id.as_bytes()),
        _ => None,
    };
    publish_encoded(payload, Some(place))
}

/// The id of this process in what it published by [`publish_across_forks`]: in a child, the one that it was given. `None` if
/// none was published so, or the context has no such id.
pub fn own_id() -> Option<String> {
    across_forks::with_published(|published| {
        let published = published.as_ref().filter(|published| published.process == std::process::id())?;
        let at = published.own_id??;
        String::from_utf8(published.payload.get(at..at + ID_LENGTH)?.to_vec()).ok()
    })
}

/// A random UUID (version 4), to tell a service's processes apart.
pub fn random_id() -> String {
    across_forks::random_uuid().into_iter().map(char::from).collect()
}

fn encode(context: &ProcessContext) -> Result<Box<[u8]>, PublishError> {
    let payload = wire::encode(&with_thread_records(context)).into_boxed_slice();
    match payload.len() {
        0..=MAXIMUM_PAYLOAD_SIZE => Ok(payload),
        size => Err(PublishError::TooLarge { size }),
    }
}

fn publish_encoded(payload: Box<[u8]>, own_id: Option<Option<usize>>) -> Result<(), PublishError> {
    let process = std::process::id();
    across_forks::with_published(|published| {
        match published.as_mut().filter(|existing| existing.process == process) {
            Some(existing) => {
                replace(existing, payload);
                existing.own_id = own_id;
            }
            None => {
                let header = map(&payload).map_err(PublishError::Mapping)?;
                // Of a parent's the mapping is not there in this process; the payload's memory is the child's own copy.
                *published = Some(Published { header, payload, process, own_id });
            }
        }
        Ok(())
    })
}

fn replace(existing: &mut Published, payload: Box<[u8]>) {
    // SAFETY: the mapping was made by this process and is never unmapped while it is published.
    let header = unsafe { &*existing.header };
    let before = header.published_at.swap(0, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    header.payload.store(payload.as_ptr() as u64, Ordering::Relaxed);
    header.payload_size.store(payload.len() as u32, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    header.published_at.store(boot_time().max(before + 1), Ordering::SeqCst);
    // Only now, when no header points to it any more, the old payload goes. A reader in the middle of it
    // finds the time changed and starts again.
    existing.payload = payload;
    let _ = name_mapping(existing.header);
}

/// Takes the context back; readers find none from now on. Harmless if none is published. A library that publishes does
/// this before it is closed.
pub fn withdraw() {
    across_forks::with_published(|published| {
        let Some(existing) = published.take() else { return };
        if existing.process == std::process::id() {
            // SAFETY: the mapping was made by this process and nothing refers to it any more.
            unsafe {
                (*existing.header).published_at.store(0, Ordering::SeqCst);
                libc::munmap(existing.header.cast(), HEADER_SIZE);
            }
        }
    });
}

fn with_thread_records(context: &ProcessContext) -> ProcessContext {
    let mut context = context.clone();
    context.set_attribute(SCHEMA_ATTRIBUTE, WRITTEN_SCHEMA.into());
    context.set_attribute(KEY_MAP_ATTRIBUTE, written_key_map());
    match own::slot() {
        Some(OwnSlot::Static { offset }) => context.set_attribute(OFFSET_ATTRIBUTE, offset.into()),
        Some(OwnSlot::Dynamic { module, offset }) => {
            context.set_attribute(MODULE_ATTRIBUTE, module.into());
            context.set_attribute(MODULE_OFFSET_ATTRIBUTE, offset.into());
        }
        None => {}
    }
    context.set_attribute(SEQUENCE_ATTRIBUTE, true.into());
    context
}

/// Makes and fills the mapping, by system calls alone.
pub(super) fn map(payload: &[u8]) -> io::Result<*mut Header> {
    let descriptor = memory_file();
    let backed = descriptor.is_some();
    let (flags, descriptor) = match descriptor {
        Some(descriptor) => (libc::MAP_PRIVATE, descriptor),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    };
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe {
        libc::mmap(ptr::null_mut(), HEADER_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0)
    };
    let result = if address == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(address.cast::<Header>())
    };
    if backed {
        // SAFETY: closes what `memory_file` opened; the mapping stays.
        unsafe { libc::close(descriptor) };
    }
    let header = result?;
    // SAFETY: the mapping is at least a header long, writable and aligned to a page; nobody else knows it.
    unsafe {
        if libc::madvise(header.cast(), HEADER_SIZE, libc::MADV_DONTFORK) != 0 {
            return Err(unmap(header, io::Error::last_os_error()));
        }
        (&raw mut (*header).version).write(VERSION);
        (&raw mut (*header).signature).write(SIGNATURE);
        (*header).payload_size.store(payload.len() as u32, Ordering::Relaxed);
        (*header).payload.store(payload.as_ptr() as u64, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        (*header).published_at.store(boot_time(), Ordering::SeqCst);
    }
    match name_mapping(header) {
        Err(error) if !backed => Err(unmap(header, error)),
        _ => Ok(header),
    }
}

fn unmap(header: *mut Header, error: io::Error) -> io::Error {
    // SAFETY: the mapping was just made and nobody refers to it.
    unsafe { libc::munmap(header.cast(), HEADER_SIZE) };
    error
}

/// A file in memory, of the mapping's size, whose name shows in the list of mappings.
fn memory_file() -> Option<i32> {
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string; the result is checked.
    let descriptor = unsafe {
        match libc::memfd_create(c"OTEL_CTX".as_ptr(), flags | MFD_NOEXEC_SEAL) {
            // Kernels before 6.3 don't know the flag.
            -1 => libc::memfd_create(c"OTEL_CTX".as_ptr(), flags),
            descriptor => descriptor,
        }
    };
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the descriptor is ours.
    unsafe {
        if libc::ftruncate(descriptor, HEADER_SIZE as libc::off_t) != 0 {
            libc::close(descriptor);
            return None;
        }
    }
    Some(descriptor)
}

/// Names the mapping. Done after every change even where the kernel refuses, as readers may watch for the call.
fn name_mapping(header: *mut Header) -> io::Result<()> {
    // SAFETY: names a mapping of ours; the name is a C string.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME as libc::c_ulong,
            header.cast::<c_void>(),
            HEADER_SIZE as libc::c_ulong,
            c"OTEL_CTX".as_ptr(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn boot_time() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    // Never 0, which would say that the context is being changed.
    (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).max(1)
}
