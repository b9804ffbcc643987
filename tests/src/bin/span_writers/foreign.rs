//! Spans of a truth program by `libdd-otel-thread-ctx`, and a process context written by hand beside it.
//!
//! Nothing here comes from our own writer, so that what our reader understands is the standards (OTEP 4947 and
//! 4719), not itself. The crate writes the threads' records only; the process-wide half, without which a
//! reader need not look for them, is written here.

use libdd_otel_thread_ctx::linux::OwnedThreadContext;

/// Publishes span `number` of `kind` for the calling thread, in place of what it published before.
pub(crate) fn publish_span(kind: u8, number: u64) {
    let span_id = ((u64::from(kind) + 1) << 56 | number & 0x00ff_ffff_ffff_ffff).to_be_bytes();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(b"truth\0\0\0");
    trace_id[8..].copy_from_slice(&span_id);
    OwnedThreadContext::update(trace_id, span_id, 1, span_id, &[]);
}

/// Publishes nothing for the calling thread from now on.
pub(crate) fn clear_span() {
    drop(OwnedThreadContext::detach());
}

/// Publishes a process context that names the thread records' schema and their one attribute.
pub(crate) fn publish_process() -> std::io::Result<()> {
    let schema = attribute("threadlocal.schema_version", &text_value("tlsdesc_v1_dev"));
    let keys = field(5, &field(1, &text_value("datadog.local_root_span_id")));
    let key_map = attribute("threadlocal.attribute_key_map", &keys);
    // Readers look at it as long as the process lives.
    let payload: &'static [u8] = Vec::leak([field(2, &schema), field(2, &key_map)].concat());
    let mut header = [0u8; 32];
    header[..8].copy_from_slice(b"OTEL_CTX");
    header[8..12].copy_from_slice(&2u32.to_ne_bytes());
    header[12..16].copy_from_slice(&(payload.len() as u32).to_ne_bytes());
    header[16..24].copy_from_slice(&boot_time_ns().to_ne_bytes());
    header[24..32].copy_from_slice(&(payload.as_ptr() as u64).to_ne_bytes());
    map_header(&header)
}

fn map_header(header: &[u8; 32]) -> std::io::Result<()> {
    // SAFETY: the name is a C string; the descriptor is used below only if it is one, and closed once; the
    // mapping is a whole page, of which the first 32 bytes are written before anything else can see it.
    unsafe {
        let file = libc::memfd_create(c"OTEL_CTX".as_ptr(), libc::MFD_CLOEXEC);
        if file < 0 || libc::ftruncate(file, 4096) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(std::ptr::null_mut(), 4096, access, libc::MAP_PRIVATE, file, 0);
        libc::close(file);
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(header.as_ptr(), page.cast(), header.len());
        // Only now may a reader that is told of the name look; it is harmless where the kernel has no names.
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, page, 4096, c"OTEL_CTX".as_ptr());
    }
    Ok(())
}

fn boot_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A `KeyValue` message.
fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value)].concat()
}

/// An `AnyValue` message that holds text.
fn text_value(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 1 << 14, "two bytes hold the length");
    let mut bytes = vec![number << 3 | 2];
    if content.len() < 128 {
        bytes.push(content.len() as u8);
    } else {
        bytes.extend([content.len() as u8 & 0x7f | 0x80, (content.len() >> 7) as u8]);
    }
    bytes.extend(content);
    bytes
}
