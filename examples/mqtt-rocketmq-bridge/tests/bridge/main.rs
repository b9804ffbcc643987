//! The bridge as a program, on a real mosquitto and a real RocketMQ.

mod configuration;
mod consumer;
mod devices;
mod killed;
mod one_trace;
mod running;
mod told;
