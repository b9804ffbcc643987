//! The same over gRPC, to a server that is not ours: the protocol's own service on tonic.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::profiles::v1development::profiles_service_server::{
    ProfilesService, ProfilesServiceServer,
};
use opentelemetry_proto::tonic::collector::profiles::v1development::{
    ExportProfilesPartialSuccess, ExportProfilesServiceRequest, ExportProfilesServiceResponse,
};
use prost::Message;
use spanprof_exporter::SampleKind;
use spanprof_exporter::otlp::{Credentials, OtlpConfig, OtlpSink, Protocol, PushReport, encode};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::fixture::profile_with_tasks;
use super::rules::read;
use super::{impatient, resource};

type Answer = Result<ExportProfilesServiceResponse, Status>;

/// A collector whose first answers are given.
#[derive(Clone, Default)]
struct Collector {
    script: Arc<Mutex<VecDeque<Answer>>>,
    taken: Arc<Mutex<Vec<ExportProfilesServiceRequest>>>,
    headers: Arc<Mutex<Vec<MetadataMap>>>,
}

#[tonic::async_trait]
impl ProfilesService for Collector {
    async fn export(
        &self,
        request: Request<ExportProfilesServiceRequest>,
    ) -> Result<Response<ExportProfilesServiceResponse>, Status> {
        self.headers.lock().unwrap().push(request.metadata().clone());
        let answer = self.script.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Default::default()))?;
        self.taken.lock().unwrap().push(request.into_inner());
        Ok(Response::new(answer))
    }
}

impl Collector {
    /// Serves for as long as the test's runtime lives.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Answers are compressed, for a client that says it reads that.
        let service = ProfilesServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("grpc://{address}")
    }

    fn taken(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().iter().map(Message::encode_to_vec).collect()
    }
}

async fn pushed(script: Vec<Answer>) -> (Collector, PushReport) {
    let collector = Collector { script: Arc::new(Mutex::new(script.into())), ..Collector::default() };
    let config = OtlpConfig { concurrent_requests: 1, ..impatient(collector.serve().await) };
    assert_eq!(config.protocol, Protocol::Grpc);
    let report = OtlpSink::new(config).unwrap().push(&profile_with_tasks(), &resource()).await;
    (collector, report)
}

#[tokio::test]
async fn all_of_it_arrives_by_the_rules_and_as_over_http() {
    let (collector, report) = pushed(vec![]).await;
    assert_eq!((report.pushed, report.retried, report.dropped.total()), (7, 0, 0), "{report:?}");
    let taken = collector.taken();
    assert_eq!(taken, encode(&profile_with_tasks(), &resource()));
    let sum: i64 = taken.iter().flat_map(|bytes| read(bytes).samples).map(|sample| sample.value).sum();
    let profile = profile_with_tasks();
    assert_eq!(sum as u64, SampleKind::ALL.iter().map(|kind| profile.total(*kind)).sum::<u64>());
    let plain: usize = taken.iter().map(Vec::len).sum();
    assert!((report.bytes as usize) < plain, "{report:?}");
}

#[tokio::test]
async fn what_can_pass_later_is_tried_again_and_nothing_else() {
    let later = [Code::Unavailable, Code::ResourceExhausted].map(|code| Err(Status::new(code, "busy")));
    let (collector, report) = pushed(later.to_vec()).await;
    assert_eq!((report.pushed, report.retried, report.dropped.total()), (7, 2, 0), "{report:?}");
    assert_eq!(collector.taken().len(), 7);

    let never = [Code::InvalidArgument, Code::Unimplemented, Code::DeadlineExceeded, Code::Internal];
    let (_, report) = pushed(never.map(|code| Err(Status::new(code, "zu groß"))).to_vec()).await;
    assert_eq!((report.pushed, report.retried), (3, 0), "{report:?}");
    let dropped = report.dropped;
    assert_eq!((dropped.rejected, dropped.misconfigured, dropped.timed_out), (2, 1, 1), "{report:?}");
    assert_eq!(report.first_error.unwrap(), "the server answered gRPC's status 3: zu groß");
}

#[tokio::test]
async fn a_partial_success_is_a_refusal() {
    let partial = ExportProfilesPartialSuccess { rejected_profiles: 1, error_message: "no room".into() };
    let (_, report) =
        pushed(vec![Ok(ExportProfilesServiceResponse { partial_success: Some(partial) })]).await;
    assert_eq!((report.pushed, report.dropped.rejected), (6, 1), "{report:?}");
    assert_eq!(report.first_error.unwrap(), "the server refused the profile: no room");
}

#[tokio::test]
async fn tenant_and_credentials_are_metadata() {
    let collector = Collector::default();
    let config = OtlpConfig {
        tenant: Some("team-a".into()),
        credentials: Credentials::Bearer { token: "t0ken".into() },
        ..impatient(collector.serve().await)
    };
    OtlpSink::new(config).unwrap().push(&profile_with_tasks(), &resource()).await;
    for headers in collector.headers.lock().unwrap().iter() {
        assert_eq!(headers.get("x-scope-orgid").unwrap(), "team-a");
        assert_eq!(headers.get("authorization").unwrap(), "Bearer t0ken");
    }
}

#[tokio::test]
async fn a_server_of_http_alone_takes_nothing_and_is_named() {
    let server = spanprof_exporter::stand_in::StandIn::start(Default::default()).unwrap();
    let config = OtlpConfig {
        protocol: Protocol::Grpc,
        retry_budget: std::time::Duration::from_millis(20),
        ..impatient(server.url())
    };
    let report = OtlpSink::new(config).unwrap().push(&profile_with_tasks(), &resource()).await;
    assert_eq!((report.pushed, report.dropped.total()), (0, 7), "{report:?}");
    assert!(server.otlp_requests().is_empty());
    assert!(report.first_error.is_some());
}
