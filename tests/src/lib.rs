//! Truth programs and end-to-end tests.
