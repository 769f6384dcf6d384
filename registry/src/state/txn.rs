//! Transactions. Comparisons select a branch; all of its operations are checked, then all applied.

use std::cmp::Ordering;
use std::collections::HashSet;

use etcd_client::CompareOp;
use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbKeyValue, PbPutRequest, PbRangeRequest,
    PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest,
    PbTxnRequestOp, PbTxnResponse,
};

use super::State;
use super::kv;
use crate::error::Error;
use crate::lease::Leases;
use crate::store::{KeyRange, Store, Write};

/// Maximum number of operations in one branch (source: etcd `embed.DefaultMaxTxnOps`).
const MAX_OPERATIONS: usize = 128;

/// A transaction and its nested transactions, with all comparisons evaluated.
struct Plan {
    succeeded: bool,
    steps: Vec<Step>,
}

enum Step {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Nested(Plan),
}

impl State {
    pub(crate) fn txn(&mut self, request: PbTxnRequest) -> Result<PbTxnResponse, Error> {
        check_shape(&request)?;
        check_duplicates(&request)?;
        let plan = plan(&self.store, request);
        check_steps(&self.store, &self.leases, &plan)?;
        let mut write = self.store.write();
        let response = run(&mut write, &mut self.leases, plan);
        write.commit();
        response
    }
}

fn operations(request: &PbTxnRequest) -> impl Iterator<Item = &PbTxnOpRequest> {
    request.success.iter().chain(&request.failure).filter_map(|op| op.request.as_ref())
}

/// Checks both branches for errors that do not depend on the state.
fn check_shape(request: &PbTxnRequest) -> Result<(), Error> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > MAX_OPERATIONS {
        return Err(Error::TooManyOperations);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for operation in operations(request) {
        let keyless = match operation {
            PbTxnOpRequest::RequestRange(r) => r.key.is_empty(),
            PbTxnOpRequest::RequestPut(r) => r.key.is_empty(),
            PbTxnOpRequest::RequestDeleteRange(r) => r.key.is_empty(),
            PbTxnOpRequest::RequestTxn(r) => {
                check_shape(r)?;
                false
            }
        };
        if keyless {
            return Err(Error::EmptyKey);
        }
    }
    Ok(())
}

/// Refuses a branch that could write a key twice: by two puts, or by a put and a delete.
fn check_duplicates(request: &PbTxnRequest) -> Result<(), Error> {
    for branch in [&request.success, &request.failure] {
        let mut written = Written::default();
        written.add_branch(branch)?;
    }
    Ok(())
}

/// Keys that a branch writes.
#[derive(Default)]
struct Written {
    puts: HashSet<Vec<u8>>,
    deletes: Vec<KeyRange>,
}

impl Written {
    fn add_branch(&mut self, branch: &[PbTxnRequestOp]) -> Result<(), Error> {
        for operation in branch.iter().filter_map(|op| op.request.as_ref()) {
            match operation {
                PbTxnOpRequest::RequestPut(put) => self.add_put(put.key.clone())?,
                PbTxnOpRequest::RequestDeleteRange(delete) => {
                    self.add_delete(KeyRange::new(&delete.key, &delete.range_end))?;
                }
                PbTxnOpRequest::RequestTxn(txn) => self.add_nested(txn)?,
                PbTxnOpRequest::RequestRange(_) => {}
            }
        }
        Ok(())
    }

    /// Only one of the nested branches will run, so both may write the same keys.
    fn add_nested(&mut self, txn: &PbTxnRequest) -> Result<(), Error> {
        let (mut success, mut failure) = (Self::default(), Self::default());
        success.add_branch(&txn.success)?;
        failure.add_branch(&txn.failure)?;
        let puts: HashSet<Vec<u8>> = success.puts.into_iter().chain(failure.puts).collect();
        puts.into_iter().try_for_each(|key| self.add_put(key))?;
        // A nested transaction may put a key in one branch and delete it in the other, so its
        // deletes are compared only with puts outside of it.
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: Vec<u8>) -> Result<(), Error> {
        let deleted = self.deletes.iter().any(|range| range.contains(&key));
        if deleted || !self.puts.insert(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }

    fn add_delete(&mut self, range: KeyRange) -> Result<(), Error> {
        if self.puts.iter().any(|key| range.contains(key)) {
            return Err(Error::DuplicateKey);
        }
        self.deletes.push(range);
        Ok(())
    }
}

/// Evaluates all comparisons on the state before the transaction, as etcd does.
fn plan(store: &Store, request: PbTxnRequest) -> Plan {
    let succeeded = request.compare.iter().all(|compare| holds(store, compare));
    let branch = if succeeded { request.success } else { request.failure };
    let steps = branch.into_iter().filter_map(|op| op.request).map(|operation| match operation {
        PbTxnOpRequest::RequestRange(range) => Step::Range(range),
        PbTxnOpRequest::RequestPut(put) => Step::Put(put),
        PbTxnOpRequest::RequestDeleteRange(delete) => Step::Delete(delete),
        PbTxnOpRequest::RequestTxn(nested) => Step::Nested(plan(store, nested)),
    });
    Plan { succeeded, steps: steps.collect() }
}

fn holds(store: &Store, compare: &PbCompare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut found = store.now(&range).peekable();
    if found.peek().is_none() {
        // A missing key compares as all zeros, but no comparison of its value succeeds.
        let missing = PbKeyValue::default();
        return compare.target() != PbCompareTarget::Value && holds_for(compare, &missing);
    }
    found.all(|kv| holds_for(compare, kv))
}

fn holds_for(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    let number = |n: i64| match compare.target_union {
        Some(
            PbTargetUnion::Version(m)
            | PbTargetUnion::CreateRevision(m)
            | PbTargetUnion::ModRevision(m)
            | PbTargetUnion::Lease(m),
        ) => n.cmp(&m),
        _ => n.cmp(&0),
    };
    let ordering = match compare.target() {
        PbCompareTarget::Version => number(kv.version),
        PbCompareTarget::Create => number(kv.create_revision),
        PbCompareTarget::Mod => number(kv.mod_revision),
        PbCompareTarget::Lease => number(kv.lease),
        PbCompareTarget::Value => match &compare.target_union {
            Some(PbTargetUnion::Value(value)) => kv.value.as_slice().cmp(value),
            _ => kv.value.as_slice().cmp(&[]),
        },
    };
    match compare.result() {
        CompareOp::Equal => ordering == Ordering::Equal,
        CompareOp::NotEqual => ordering != Ordering::Equal,
        CompareOp::Greater => ordering == Ordering::Greater,
        CompareOp::Less => ordering == Ordering::Less,
    }
}

/// Checks all steps before the first one runs, so that an error has no effect.
fn check_steps(store: &Store, leases: &Leases, plan: &Plan) -> Result<(), Error> {
    plan.steps.iter().try_for_each(|step| match step {
        Step::Range(range) => kv::check_range(store, range),
        Step::Put(put) => kv::check_put(store, leases, put),
        Step::Delete(delete) => kv::check_delete(delete),
        Step::Nested(nested) => check_steps(store, leases, nested),
    })
}

fn run(write: &mut Write<'_>, leases: &mut Leases, plan: Plan) -> Result<PbTxnResponse, Error> {
    let mut responses = Vec::with_capacity(plan.steps.len());
    for step in plan.steps {
        let mut response = match step {
            Step::Range(range) => PbTxnOpResponse::ResponseRange(kv::range(write.store(), &range)?),
            Step::Put(put) => PbTxnOpResponse::ResponsePut(kv::put(write, leases, put)),
            Step::Delete(delete) => {
                PbTxnOpResponse::ResponseDeleteRange(kv::delete(write, leases, &delete))
            }
            Step::Nested(nested) => PbTxnOpResponse::ResponseTxn(run(write, leases, nested)?),
        };
        set_revision(&mut response, write.revision());
        responses.push(PbResponseOp { response: Some(response) });
    }
    Ok(PbTxnResponse { header: None, succeeded: plan.succeeded, responses })
}

/// Inside a transaction, a header contains only the revision, as in etcd.
fn set_revision(response: &mut PbTxnOpResponse, revision: i64) {
    let header = Some(PbResponseHeader { revision, ..Default::default() });
    match response {
        PbTxnOpResponse::ResponseRange(r) => r.header = header,
        PbTxnOpResponse::ResponsePut(r) => r.header = header,
        PbTxnOpResponse::ResponseDeleteRange(r) => r.header = header,
        PbTxnOpResponse::ResponseTxn(r) => r.header = Some(PbResponseHeader::default()),
    }
}
