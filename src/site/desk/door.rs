//! The desk's door: connections, so many at once, each of which must come to the point.
//!
//! Whoever reaches the port may connect. A connection that says nothing, or says it a byte at a time, is closed; what a request's body and
//! its answer may take is the desk's to bound.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

/// Connections at once. A node has a few for each of its sessions.
const CONNECTIONS: u32 = 1024;
/// How long a request's head may take, and how long a connection may wait for its next request.
const HEAD: Duration = Duration::from_secs(20);
/// The longest that one connection lasts: more than the largest object takes at the slowest pace that a node puts up with.
const LIFE: Duration = Duration::from_secs(2 * 3600);
/// How long what was asked already may take once the site is to end.
const GRACE: Duration = Duration::from_secs(20);
/// How long to wait when no connection can be taken: too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `end`, then lets what was asked be answered.
pub(in crate::site) async fn serve(
    listener: TcpListener,
    routes: Router,
    end: impl Future<Output = ()>,
) {
    serve_with(listener, routes, end, (CONNECTIONS, HEAD)).await;
}

async fn serve_with(
    listener: TcpListener,
    routes: Router,
    end: impl Future<Output = ()>,
    (most, head): (u32, Duration),
) {
    let room = Arc::new(Semaphore::new(most as usize));
    let (ending, told) = watch::channel(false);
    let mut end = pin!(end);
    loop {
        let next = async {
            // Never closed, so there is always a permit in the end.
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => Some((stream, permit)),
                Err(_) => {
                    sleep(PAUSE).await;
                    None
                }
            }
        };
        tokio::select! {
            () = &mut end => break,
            next = next => if let Some((stream, permit)) = next {
                let answered = answer(stream, routes.clone(), told.clone(), head);
                tokio::spawn(keep(permit, answered));
            },
        }
    }
    drop(listener);
    let _ = ending.send(true);
    let _ = timeout(GRACE, room.acquire_many(most)).await;
}

async fn keep(_permit: OwnedSemaphorePermit, answered: impl Future<Output = ()>) {
    let _ = timeout(LIFE, answered).await;
}

/// Answers the requests of one connection.
async fn answer(
    stream: TcpStream,
    routes: Router,
    mut told: watch::Receiver<bool>,
    head: Duration,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = told.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

    async fn said(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn who_does_not_come_to_the_point_makes_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let routes = Router::new().route("/x", get(|| async { "here" }));
        let over = async {
            let _ = ended.await;
        };
        let limits = (2, Duration::from_millis(500));
        let served = tokio::spawn(serve_with(listener, routes, over, limits));
        // Two that say nothing, or the beginning of something, take all the room.
        let mut silent = TcpStream::connect(at).await.unwrap();
        let mut slow = TcpStream::connect(at).await.unwrap();
        slow.write_all(&REQUEST[..9]).await.unwrap();
        let began = Instant::now();
        let mut third = TcpStream::connect(at).await.unwrap();
        third.write_all(REQUEST).await.unwrap();
        let answer = timeout(Duration::from_secs(20), said(&mut third)).await;
        let answer = answer.expect("nobody makes room");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("here"), "{answer}");
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert!(!said(&mut silent).await.contains("200"));
        assert!(!said(&mut slow).await.contains("200"));
        end.send(()).unwrap();
        timeout(Duration::from_secs(20), served)
            .await
            .unwrap()
            .unwrap();
    }
}
