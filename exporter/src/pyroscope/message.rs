//! The protobuf messages of Pyroscope's push interface, written by hand from their published field numbers.

/// One push.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) series: Vec<RawProfileSeries>,
}

/// Profiles that share their labels.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RawProfileSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<RawSample>,
}

/// One profile.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RawSample {
    /// pprof, compressed or not.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) raw_profile: Vec<u8>,
    /// Ignored by the server; the older one wanted a UUID.
    #[prost(string, tag = "2")]
    pub(crate) id: String,
}

/// A label of a series.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LabelPair {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}
