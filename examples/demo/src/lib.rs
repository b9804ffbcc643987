//! A broker, a producer and a consumer whose slow messages have known causes.
