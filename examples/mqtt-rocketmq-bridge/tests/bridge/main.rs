//! The bridge as a program, on a real mosquitto and a real RocketMQ.

mod away;
mod configuration;
mod consumer;
mod devices;
mod killed;
mod odd;
mod one_trace;
mod running;
mod told;
