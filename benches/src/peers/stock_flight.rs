//! arrow-rs as it comes: arrow-flight's encoder and decoder over tonic with its defaults, but for the message limit, which
//! would refuse large messages, and TCP_NODELAY, without which small calls would wait.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use arrow_array::{FixedSizeListArray, Float32Array, RecordBatch};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::{DataType, Field, Schema};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future, stream};
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::{CELL, Peer, Work};
use crate::process::Process;

/// The client's end.
pub struct StockFlight {
    server: Process,
    runtime: Runtime,
    client: FlightServiceClient<Channel>,
    batch: Option<RecordBatch>,
}

impl StockFlight {
    /// Starts the server and connects.
    pub fn start() -> Outcome<StockFlight> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut server = Process::serve(command.args(["peer", "stock-flight"]))?;
        let address = server.wait_for("ready ")?;
        let runtime = Runtime::new()?;
        let client = runtime.block_on(connect(&format!("http://{address}")))?;
        Ok(StockFlight {
            server,
            runtime,
            client,
            batch: None,
        })
    }
}

impl Peer for StockFlight {
    fn name(&self) -> &'static str {
        "stock-flight"
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.server.id(), std::process::id()]
    }

    fn prepare(&mut self, bytes: u64) -> Outcome<()> {
        self.batch = Some(batch_of(bytes)?);
        self.run(Work::Put, bytes, 1)?;
        self.run(Work::Get, bytes, 1).map(drop)
    }

    fn run(&mut self, work: Work, bytes: u64, ops: u32) -> Outcome<f64> {
        let batch = self.batch.clone().ok_or("not prepared")?;
        let (runtime, client) = (&self.runtime, &mut self.client);
        let watch = Stopwatch::start();
        for _ in 0..ops {
            if work == Work::Put {
                runtime.block_on(put(client, format!("t{bytes}"), vec![batch.clone()]))?;
            } else {
                let rows = runtime.block_on(get(client, format!("t{bytes}")))?;
                if rows as u64 != bytes / 4 / CELL {
                    return Err(format!("stock-flight returned {rows} rows").into());
                }
            }
        }
        Ok(watch.seconds())
    }
}

/// Connects with tonic's defaults, but for the message limit.
pub async fn connect(uri: &str) -> Outcome<FlightServiceClient<Channel>> {
    let channel = Endpoint::from_shared(uri.to_owned())?
        .tcp_nodelay(true)
        .connect()
        .await?;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX))
}

/// Sends batches under a command and waits for the last result.
pub async fn put(
    client: &mut FlightServiceClient<Channel>,
    command: String,
    batches: Vec<RecordBatch>,
) -> Outcome<Option<PutResult>> {
    let descriptor = FlightDescriptor::new_cmd(command);
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor));
    let encoded = encoder.build(stream::iter(batches.into_iter().map(Ok)));
    // An encoder over whole batches in memory does not fail.
    let messages = encoded.filter_map(|message| future::ready(message.ok()));
    let results: Vec<PutResult> = client
        .do_put(messages)
        .await?
        .into_inner()
        .try_collect()
        .await?;
    Ok(results.into_iter().next_back())
}

/// Gets and decodes; how many rows there were.
pub async fn get(client: &mut FlightServiceClient<Channel>, ticket: String) -> Outcome<usize> {
    let response = client.do_get(Ticket::new(ticket)).await?.into_inner();
    let mut batches =
        FlightRecordBatchStream::new_from_flight_data(response.map_err(FlightError::from));
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

fn batch_of(bytes: u64) -> Outcome<RecordBatch> {
    let values: Float32Array = (0..bytes / 4).map(|i| i as f32).collect::<Vec<_>>().into();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let cells = FixedSizeListArray::try_new(item, i32::try_from(CELL)?, Arc::new(values), None)?;
    let schema = Schema::new(vec![Field::new(
        "tensor",
        arrow_array::Array::data_type(&cells).clone(),
        false,
    )]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(cells)],
    )?)
}

/// The server's end: batches as they were put, warm.
pub fn serve() -> Outcome<()> {
    Runtime::new()?.block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        println!("ready {}", incoming.local_addr()?);
        let service =
            FlightServiceServer::new(Stock::default()).max_decoding_message_size(usize::MAX);
        Ok(Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await?)
    })
}

#[derive(Default)]
struct Stock {
    stored: Mutex<HashMap<Vec<u8>, Vec<RecordBatch>>>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Stock {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let ticket = request.into_inner().ticket;
        let batches = self
            .stored
            .lock()
            .ok()
            .and_then(|stored| stored.get(&ticket[..]).cloned());
        let batches = batches.ok_or_else(|| Status::not_found("no such batch"))?;
        let encoded =
            FlightDataEncoderBuilder::new().build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let mut messages = request.into_inner().peekable();
        let first = std::pin::Pin::new(&mut messages).peek().await;
        let descriptor = first.and_then(|first| first.as_ref().ok()?.flight_descriptor.clone());
        let command = descriptor
            .ok_or_else(|| Status::invalid_argument("no descriptor"))?
            .cmd;
        let decoded =
            FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from));
        let batches = decoded.try_collect().await?;
        if let Ok(mut stored) = self.stored.lock() {
            stored.insert(command.to_vec(), batches);
        }
        Ok(Response::new(
            stream::iter([Ok(PutResult::default())]).boxed(),
        ))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        Err(unused())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(unused())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(unused())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(unused())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(unused())
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        Err(unused())
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(unused())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(unused())
    }
}

fn unused() -> Status {
    Status::unimplemented("not timed")
}
