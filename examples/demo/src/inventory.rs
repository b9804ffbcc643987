//! The inventory: stock behind one lock per warehouse, one of which is now and then recounted.
//!
//! Only orders whose trouble is the lock go to the warehouse that is recounted, so that no other message waits
//! for it by accident. The recount is a span of its own in a thread of its own: it is what holds the lock.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::orders::Order;
use crate::story::Cause;

type Stock = Mutex<HashMap<String, i64>>;

/// What is in the two warehouses.
#[derive(Debug)]
pub struct Inventory {
    quiet: Stock,
    recounted: Arc<Stock>,
    recount: SyncSender<Recount>,
}

/// A request to count a warehouse for so long; answered as soon as the lock is held.
struct Recount {
    lasting: Duration,
    holds_lock: SyncSender<()>,
}

impl Inventory {
    /// An inventory with its recounting thread, which ends when the inventory is dropped.
    ///
    /// Errors when the thread can't be started.
    pub fn open() -> std::io::Result<Self> {
        let recounted = Arc::new(Stock::default());
        let (recount, requests) = sync_channel(0);
        let stock = Arc::clone(&recounted);
        std::thread::Builder::new()
            .name("stock-recount".to_owned())
            .spawn(move || recount_on_request(&stock, &requests))?;
        Ok(Self { quiet: Stock::default(), recounted, recount })
    }

    /// Where the order's stock is; for an order whose trouble is the lock, after a recount has begun there.
    fn warehouse(&self, order: &Order) -> &Stock {
        let lasting = order.trouble_for(Cause::Lock);
        if lasting.is_zero() {
            return &self.quiet;
        }
        let (holds_lock, held) = sync_channel(1);
        if self.recount.send(Recount { lasting, holds_lock }).is_ok() {
            // An error means that the thread is gone; then nobody holds the lock.
            let _ = held.recv();
        }
        &self.recounted
    }
}

/// Takes the order's pieces from the stock; the slow kind waits for the lock in here.
#[inline(never)]
pub fn reserve_stock(inventory: &Inventory, order: &Order) -> usize {
    let mut stock = lock(inventory.warehouse(order));
    for line in &order.lines {
        *stock.entry(line.article.clone()).or_insert(1_000_000) -= i64::from(line.pieces);
    }
    stock.len()
}

#[inline(never)]
fn recount_on_request(stock: &Stock, requests: &Receiver<Recount>) {
    while let Ok(request) = requests.recv() {
        let _span = tracing::info_span!("recount stock").entered();
        let mut stock = lock(stock);
        let _ = request.holds_lock.send(());
        walk_the_shelves(request.lasting);
        stock.values_mut().for_each(|pieces| *pieces = (*pieces).max(0));
    }
}

/// What the recount does while it holds the lock.
#[inline(never)]
fn walk_the_shelves(lasting: Duration) {
    std::thread::sleep(lasting);
    // Keeps this function's frame on the stack: the sleep would become its last jump.
    black_box(&lasting);
}

/// A stock is whole after every change of a line, so that a panic elsewhere doesn't spoil it.
fn lock(stock: &Stock) -> MutexGuard<'_, HashMap<String, i64>> {
    stock.lock().unwrap_or_else(PoisonError::into_inner)
}
