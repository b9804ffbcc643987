//! Where an asynchronous handler waits while no thread has it.
