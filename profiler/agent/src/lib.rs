//! Profiles running producers and consumers from outside and answers where the time of a slow message went.

pub mod targets;
