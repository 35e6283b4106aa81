//! The leaf of every plan: reads a table as it is now, a step at a time, when the query asks for one.
//!
//! A step is read by a task on threads that may take locks; what it found is made into columns on the
//! query's thread, and while the query works on them the next ones are read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use bowstring_wire::error::{Error, Result};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream::try_unfold;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::DfResult;
use crate::error::passed;

/// Steps that are asked for at a time, where a query has taken as many: neither thread goes to sleep after each because the other
/// is not done.
const AHEAD: usize = 3;

/// Makes a batch of what a step has read, on the query's thread.
pub type Build = Box<dyn FnOnce() -> DfResult<RecordBatch> + Send>;
/// Where a step's answer goes; `None` is the end.
type Reply = oneshot::Sender<Result<Option<Build>>>;

/// What a scan reads.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Says in `EXPLAIN` what will be read, and how.
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads, on the server's threads, until there is no more or nobody asks.
    async fn read(&self, give: &mut Give) -> Result<()>;
}

/// The query's end of a reading.
pub struct Give {
    asked: mpsc::Receiver<Reply>,
    reply: Option<Reply>,
    /// What `EXPLAIN ANALYZE` says.
    pub counted: Counted,
}

/// What a reading has done.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Keys that were looked up.
    pub looked_up: Count,
    /// Keys that were passed in a walk.
    pub walked: Count,
    /// Bytes of tensors that were read.
    pub value_bytes: Count,
}

impl Give {
    /// Waits until the query wants more; `false` where it never will.
    pub async fn wanted(&mut self) -> bool {
        if self.reply.is_none() {
            self.reply = self.asked.recv().await;
        }
        self.reply.is_some()
    }

    /// Gives a step; `false` where nobody wants it.
    pub async fn give(&mut self, build: Build) -> bool {
        self.answer(Ok(Some(build))).await
    }

    async fn answer(&mut self, answer: Result<Option<Build>>) -> bool {
        self.wanted().await
            && self
                .reply
                .take()
                .is_some_and(|reply| reply.send(answer).is_ok())
    }
}

/// The plan that reads a [`Source`].
#[derive(Debug)]
pub struct Scan {
    source: Arc<dyn Source>,
    normal: Handle,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl Scan {
    /// Reads `source`, whose batches have this schema, by tasks on `normal`.
    pub fn new(source: Arc<dyn Source>, schema: SchemaRef, normal: Handle) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            source,
            normal,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for Scan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.explain(f)
    }
}

impl ExecutionPlan for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        _: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let count = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let counted = Counted {
            looked_up: count("keys_looked_up"),
            walked: count("keys_walked"),
            value_bytes: count("value_bytes"),
        };
        let (ask, asked) = mpsc::channel(AHEAD);
        let give = Give {
            asked,
            reply: None,
            counted,
        };
        let reading = Reading {
            ask,
            asked: VecDeque::new(),
            ahead: 1,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            _task: AbortOnDropHandle::new(self.normal.spawn(read(self.source.clone(), give))),
        };
        let batches = try_unfold(reading, |mut reading| async move {
            let next = reading.next().await;
            next.map(|batch| batch.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

async fn read(source: Arc<dyn Source>, mut give: Give) {
    let end = source.read(&mut give).await.map(|()| None);
    give.answer(end).await;
}

struct Reading {
    ask: mpsc::Sender<Reply>,
    /// Steps that were asked for.
    asked: VecDeque<oneshot::Receiver<Result<Option<Build>>>>,
    /// How many are to be.
    ahead: usize,
    baseline: BaselineMetrics,
    _task: AbortOnDropHandle<()>,
}

impl Reading {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        self.ask();
        let answer = match self.asked.pop_front() {
            Some(asked) => asked.await.ok(),
            None => None,
        };
        // An end is told: where nothing is, rows would be missing without a word.
        let ended = || {
            passed(Error::internal(
                "the reading of a table ended before its end",
            ))
        };
        let Some(build) = answer.ok_or_else(ended)?.map_err(passed)? else {
            return Ok(None);
        };
        self.ask();
        self.ahead = AHEAD.min(self.ahead + 1);
        // A thread that only works is not interrupted before its share of a core is used up, however small that is.
        std::thread::yield_now();
        let _time = self.baseline.elapsed_compute().timer();
        let batch = build()?;
        self.baseline.record_output(batch.num_rows());
        Ok(Some(batch))
    }

    /// Asks for as many steps as may be asked for.
    fn ask(&mut self) {
        while self.asked.len() < self.ahead {
            let (reply, answer) = oneshot::channel();
            if self.ask.try_send(reply).is_err() {
                // The reading has ended, or has not taken the last one yet.
                return;
            }
            self.asked.push_back(answer);
        }
    }
}
