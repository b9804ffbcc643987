//! A span carried to another thread: blocking tasks, thread pools and threads of one's own.
