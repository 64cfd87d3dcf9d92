//! The lab's protocol, part 1, on tokio-tungstenite: a task a client for reading, one for writing, and a channel
//! between whoever has something to say and each client's writer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Socket = WebSocketStream<TcpStream>;
type Outbox = UnboundedSender<Message>;

const NOTICE_LIMIT: usize = 500;
const METRICS: [&str; 3] = ["temperature", "stock", "cpu"];
const BATCH: usize = 256;
const READ_BUFFER_BYTES: usize = 4096;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

struct Lab {
    chat_interval: Duration,
    next_id: u64,
    room: HashMap<u64, Outbox>,
    dashboard: HashMap<u64, (Outbox, Vec<&'static str>)>,
}

type Shared = Rc<RefCell<Lab>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let interval_ms = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let lab = Rc::new(RefCell::new(Lab {
        chat_interval: Duration::from_millis(interval_ms),
        next_id: 0,
        room: HashMap::new(),
        dashboard: HashMap::new(),
    }));
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    println!("listening on http://{}", listener.local_addr()?);
    let local = LocalSet::new();
    local.spawn_local(tick(Rc::clone(&lab)));
    local.spawn_local(accept(listener, lab));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    local.run_until(async { terminate.recv().await }).await;
    Ok(())
}

async fn accept(listener: TcpListener, lab: Shared) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            spawn_local(serve(stream, Rc::clone(&lab)));
        }
    }
}

async fn serve(stream: TcpStream, lab: Shared) {
    let mut path = String::new();
    // The error is as large as the library has it.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        path = request.uri().path().to_owned();
        if ["/ws/chat", "/ws/dashboard", "/ws/echo"].contains(&path.as_str()) {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        Err(refusal)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let Ok(socket) = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await else { return };
    if path == "/ws/echo" {
        return echo(socket).await;
    }
    let (sink, stream) = socket.split();
    let (outbox, inbox) = unbounded_channel();
    spawn_local(write(sink, inbox));
    if path == "/ws/chat" {
        chat(stream, outbox, lab).await;
    } else {
        watch(stream, outbox, lab).await;
    }
}

/// All that is waiting in one go, then one flush.
async fn write(mut sink: SplitSink<Socket, Message>, mut inbox: UnboundedReceiver<Message>) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        for message in batch.drain(..) {
            if sink.feed(message).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

async fn echo(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        let closing = message.is_close();
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
        if closing {
            let _ = socket.flush().await;
        }
    }
}

async fn chat(mut stream: SplitStream<Socket>, outbox: Outbox, lab: Shared) {
    let id = {
        let mut lab = lab.borrow_mut();
        lab.next_id += 1;
        let (id, online) = (lab.next_id, lab.room.len() + 1);
        if online <= NOTICE_LIMIT {
            lab.say(&system("Một người dùng mới đã tham gia chat", &json!({"online_count": online})));
        }
        lab.room.insert(id, outbox.clone());
        let welcome = format!("Chào mừng đến chat room! Hiện có {online} người online.");
        let _ = outbox.send(system(&welcome, &json!({"online_count": online})));
        id
    };
    let mut accepted_at: Option<Instant> = None;
    while let Some(Ok(message)) = stream.next().await {
        if !(message.is_text() || message.is_binary()) {
            continue;
        }
        let interval = lab.borrow().chat_interval;
        match check_chat(&message.into_data()) {
            Ok(_) if accepted_at.is_some_and(|at| at.elapsed() < interval) => {
                let _ = outbox.send(error("Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây."));
            }
            Ok(said) => {
                accepted_at = Some(Instant::now());
                lab.borrow().say(&said);
            }
            Err(text) => {
                let _ = outbox.send(error(text));
            }
        }
    }
    let mut lab = lab.borrow_mut();
    lab.room.remove(&id);
    if lab.room.len() <= NOTICE_LIMIT {
        lab.say(&system("Một người dùng đã rời khỏi chat", &json!({"online_count": lab.room.len()})));
    }
}

async fn watch(mut stream: SplitStream<Socket>, outbox: Outbox, lab: Shared) {
    let id = {
        let mut lab = lab.borrow_mut();
        lab.next_id += 1;
        let id = lab.next_id;
        lab.dashboard.insert(id, (outbox.clone(), METRICS.to_vec()));
        id
    };
    let welcome = "Kết nối dashboard thành công. Đang nhận dữ liệu realtime...";
    let _ = outbox.send(system(welcome, &json!({"subscribed": METRICS})));
    while let Some(Ok(message)) = stream.next().await {
        if !(message.is_text() || message.is_binary()) {
            continue;
        }
        match parse(&message.into_data(), "subscribe") {
            Err(text) => {
                let _ = outbox.send(error(text));
            }
            Ok(request) => {
                let asked: Vec<&str> =
                    request["metrics"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let wanted: Vec<&'static str> =
                    METRICS.into_iter().filter(|metric| asked.contains(metric)).collect();
                let text = format!("Đã subscribe: {}", wanted.join(", "));
                let _ = outbox.send(system(&text, &json!({"subscribed": wanted})));
                if let Some(entry) = lab.borrow_mut().dashboard.get_mut(&id) {
                    entry.1 = wanted;
                }
            }
        }
    }
    lab.borrow_mut().dashboard.remove(&id);
}

impl Lab {
    /// To everyone: the bytes are shared, not copied.
    fn say(&self, message: &Message) {
        for outbox in self.room.values() {
            let _ = outbox.send(message.clone());
        }
    }
}

async fn tick(lab: Shared) {
    let mut values = [25.0, 100.0, 30.0_f64];
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    loop {
        interval.tick().await;
        let mut rng = rand::rng();
        values[0] = (values[0] + rng.random_range(-1.5..=1.5)).clamp(20.0, 35.0);
        values[1] = (values[1] * rng.random_range(0.98..=1.02)).clamp(50.0, 200.0);
        values[2] = (values[2] + rng.random_range(-10.0..=10.0)).clamp(10.0, 90.0);
        let ts = now_ms();
        for (metric, value) in METRICS.into_iter().zip(values) {
            let value = (value * 100.0).round() / 100.0;
            let message = text(&json!({"type": "metric", "metric": metric, "value": value, "ts": ts}));
            for (outbox, wanted) in lab.borrow().dashboard.values() {
                if wanted.contains(&metric) {
                    let _ = outbox.send(message.clone());
                }
            }
        }
    }
}

fn parse(raw: &[u8], kind: &str) -> Result<Value, &'static str> {
    let message: Value = serde_json::from_slice(raw).map_err(|_| "Invalid JSON format")?;
    if message["type"] == kind { Ok(message) } else { Err("Invalid message type") }
}

fn check_chat(raw: &[u8]) -> Result<Message, &'static str> {
    let message = parse(raw, "chat")?;
    let field = |name: &str| match &message[name] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.trim()),
        _ => Err("Invalid message type"),
    };
    let (name, said) = (field("name")?, field("text")?);
    if name.is_empty() || said.is_empty() {
        return Err("Tên và nội dung không được để trống");
    }
    if said.chars().count() > 500 {
        return Err("Tin nhắn quá dài (tối đa 500 ký tự)");
    }
    let name: String = name.chars().take(50).collect();
    Ok(text(&json!({"type": "chat", "name": name, "text": said, "ts": now_ms()})))
}

fn system(said: &str, more: &Value) -> Message {
    let mut message = json!({"type": "system", "text": said, "ts": now_ms()});
    if let (Some(message), Some(more)) = (message.as_object_mut(), more.as_object()) {
        message.extend(more.clone());
    }
    text(&message)
}

fn error(said: &str) -> Message {
    text(&json!({"type": "error", "text": said, "ts": now_ms()}))
}

fn text(value: &Value) -> Message {
    Message::Text(Utf8Bytes::from(value.to_string()))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
