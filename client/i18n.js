'use strict';

/*
 * Every text the pages show, in Vietnamese and in English.
 *
 * A server sends codes; a page says them in its reader's language. Static texts are named in the markup:
 * data-t="key" fills an element, data-t-placeholder and data-t-aria-label an attribute. Loaded in the head and not
 * deferred, so that the first paint has them.
 */

const TEXTS = {
  'nav.label': ['Các trang', 'Pages'],

  'switch.language': ['Switch to English', 'Chuyển sang tiếng Việt'],
  'switch.theme.auto': ['Giao diện: theo hệ thống', 'Theme: as the system'],
  'switch.theme.light': ['Giao diện: sáng', 'Theme: light'],
  'switch.theme.dark': ['Giao diện: tối', 'Theme: dark'],

  'status.connecting': ['Đang kết nối...', 'Connecting...'],
  'status.open': ['Đã kết nối', 'Connected'],
  'status.lost': ['Mất kết nối', 'Connection lost'],
  'status.waiting': ['Kết nối lại sau {seconds}s...', 'Reconnecting in {seconds}s...'],
  'status.failed': ['Không thể kết nối. Vui lòng tải lại trang.', 'Cannot connect. Please reload the page.'],
  'status.refused': ['Server đã từ chối kết nối. {reason}', 'The server refused the connection. {reason}'],
  'status.bad-server': [
    'Địa chỉ server không hợp lệ: {url} (ví dụ đúng: ws://localhost:8765)',
    'Not a server address: {url} (one would be ws://localhost:8765)',
  ],
  'status.insecure': [
    'Trang https chỉ kết nối được tới wss://, không phải {url}',
    'An https page can connect to wss:// only, not to {url}',
  ],
  'status.attempt': ['Lần thử {attempt}/{attempts}', 'Attempt {attempt} of {attempts}'],
  'status.retry': ['Kết nối ngay', 'Connect now'],

  'server.evloop': ['Event loop: mọi client trên một thread', 'Event loop: all clients on one thread'],
  'server.threads': ['Một thread cho mỗi client', 'One thread per client'],
  'server.unknown': ['Server không nói nó chạy kiểu nào', 'The server does not say which kind it is'],

  'index.heading': ['WebSocket, nhìn tận mắt', 'WebSocket, seen at work'],
  'index.lead': [
    'Một giao thức, hai server bằng Rust: một event loop trên một thread, và một thread cho mỗi client. Mở các trang, dừng server rồi chạy lại, và xem chuyện gì xảy ra.',
    'One protocol, two servers in Rust: an event loop on one thread, and one thread per client. Open the pages, stop the server and start it again, and watch what happens.',
  ],
  'index.chat': [
    'Tin nhắn đến mọi tab ngay lập tức, không mất và không lặp khi kết nối lại.',
    'A message reaches every tab at once, and none is lost or doubled by a reconnect.',
  ],
  'index.dashboard': [
    'Nhiệt độ, cổ phiếu, CPU và sức khỏe của server, vẽ trực tiếp mỗi giây.',
    'Temperature, stock, CPU and the vitals of the server, drawn live every second.',
  ],
  'index.try': ['Thử ngay', 'Try it'],
  'index.try.broadcast': [
    'Mở chat ở hai tab, đặt hai tên khác nhau, gửi một tin: cả hai tab đều thấy.',
    'Open the chat in two tabs under two names and send a message: both tabs show it.',
  ],
  'index.try.stream': [
    'Mở dashboard, bỏ tick một metric: chỉ metric được tick mới nhận data.',
    'Open the dashboard and untick a metric: only ticked metrics receive data.',
  ],
  'index.try.reconnect': [
    'Dừng server (Ctrl+C): trang tự thử lại. Chạy lại server: trang tự trở lại.',
    'Stop the server (Ctrl+C): the page keeps trying. Start it again: the page is back.',
  ],
  'index.try.limits': [
    'Gửi thật nhanh, rồi gửi tin rỗng: server từ chối, và nói vì sao.',
    'Send very fast, then send nothing at all: the server refuses, and says why.',
  ],
  'index.endpoint.chat': ['phòng chat', 'the chat room'],
  'index.endpoint.dashboard': ['luồng metric', 'the stream of metrics'],
  'index.endpoint.echo': ['trả lại đúng những gì nhận được', 'gives back what it was sent'],
  'index.endpoint.healthz': ['server còn phục vụ không', 'whether the server is serving'],
  'index.endpoint.metrics': ['số liệu của server, dạng Prometheus', "the server's figures, as Prometheus text"],
  'index.endpoint.report': ['báo cáo so sánh hai server gần nhất', 'the last report that compares both servers'],
  'index.clients': ['client đang kết nối', 'clients connected'],

  'chat.heading': ['Chat realtime', 'Realtime chat'],
  'chat.log': ['Tin nhắn', 'Messages'],
  'chat.online': ['{count} người online', '{count} online'],
  'chat.name': ['Tên của bạn', 'Your name'],
  'chat.message': ['Nhập tin nhắn', 'Write a message'],
  'chat.send': ['Gửi', 'Send'],
  'chat.wait': ['Đợi {seconds}s', 'Wait {seconds}s'],
  'chat.me': ['Bạn', 'You'],
  'chat.empty': ['Chưa có tin nhắn nào. Hãy là người đầu tiên.', 'No messages yet. Be the first.'],
  'chat.pending': ['đang gửi', 'sending'],
  'chat.failed': ['chưa gửi được', 'not sent'],
  'chat.unsure': ['mất kết nối, chưa rõ đã gửi hay chưa', 'connection lost: may or may not have been sent'],
  'chat.retry': ['Gửi lại', 'Send again'],
  'chat.discard': ['Bỏ', 'Discard'],
  'chat.unread': ['Tin nhắn mới', 'New messages'],
  'chat.jump': ['↓ Mới nhất', '↓ Latest'],
  'chat.jump.unread': ['↓ {count} tin nhắn mới', '↓ {count} new'],
  'chat.joined': ['{count} người đã tham gia', '{count} joined'],
  'chat.left': ['{count} người đã rời đi', '{count} left'],
  'chat.gap': [
    'Có thể thiếu một số tin nhắn trong lúc mất kết nối.',
    'Messages from while the connection was down may be missing.',
  ],
  'chat.lost': ['Mất kết nối với server.', 'The connection to the server was lost.'],

  'system.welcome': [
    'Chào mừng đến chat room! Hiện có {online_count} người online.',
    'Welcome to the chat room! {online_count} online now.',
  ],
  'system.joined': ['Một người dùng mới đã tham gia chat', 'Someone joined the chat'],
  'system.restart': ['Server sắp khởi động lại.', 'The server is restarting.'],
  'system.left': ['Một người dùng đã rời khỏi chat', 'Someone left the chat'],

  'error.bad_json': ['Server không đọc được JSON này', 'The server could not read this JSON'],
  'error.bad_message': ['Server không hiểu tin nhắn', 'The server did not understand the message'],
  'error.empty': ['Tên và nội dung không được để trống', 'Name and message must not be empty'],
  'error.too_long': ['Tin nhắn quá dài (tối đa 500 ký tự)', 'The message is too long (500 characters at most)'],
  'error.rate_limited': [
    'Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi {seconds} giây.',
    'You are sending too fast. Please wait {seconds} s.',
  ],
  'error.unavailable': ['Chưa lưu được; gửi lại sau {seconds} giây', 'Not stored yet; sent again in {seconds} s'],
  'error.unknown_metric': ['Server không biết metric này', 'The server does not know this metric'],

  'dashboard.heading': ['Dashboard realtime', 'Realtime dashboard'],
  'dashboard.choose': ['Chọn metrics', 'Choose metrics'],
  'dashboard.vitals': ['Sức khỏe của server', 'Vitals of the server'],
  'dashboard.table': ['Bảng số liệu', 'Table of values'],
  'dashboard.time': ['Thời điểm', 'Time'],
  'dashboard.value': ['Giá trị', 'Value'],
  'dashboard.unread': ['Dùng phím mũi tên để đọc từng điểm', 'Arrow keys read each point'],
  'dashboard.updated': ['Cập nhật: {time}', 'Updated: {time}'],
  'dashboard.off': ['Không theo dõi', 'Not watched'],
  'dashboard.waiting': ['Đang chờ dữ liệu', 'Waiting for data'],
  'dashboard.chart': ['Biểu đồ {metric}, 60 điểm gần nhất', 'Chart of {metric}, the last 60 points'],

  'metric.temperature': ['Nhiệt độ', 'Temperature'],
  'metric.stock': ['Giá cổ phiếu', 'Stock price'],
  'metric.cpu': ['CPU', 'CPU'],
  'metric.clients': ['Số client', 'Clients'],
  'metric.deliveries': ['Frame gửi đi', 'Deliveries'],
  'metric.lag': ['Độ trễ', 'Lag'],
  'metric.memory': ['Bộ nhớ', 'Memory'],
  'metric.threads': ['Số thread', 'Threads'],

  'wire.heading': ['Trên dây', 'On the wire'],
  'wire.close': ['Đóng', 'Close'],
  'wire.frames': ['Các frame, mới nhất ở trên', 'Frames, newest on top'],
  'wire.filter': ['Lọc frame', 'Filter frames'],
  'wire.filter.all': ['Tất cả', 'All'],
  'wire.filter.in': ['Nhận', 'Received'],
  'wire.filter.out': ['Gửi', 'Sent'],
  'wire.pause': ['Tạm dừng', 'Pause'],
  'wire.resume': ['Tiếp tục', 'Resume'],
  'wire.clear': ['Xóa', 'Clear'],
  'wire.silence': [
    'Không có frame nào, kể cả trả lời ping: kết nối đã chết',
    'No frame, not even an answer to a ping: the link is dead',
  ],
  'wire.payload': ['Nội dung (text, binary)', 'Payload (text, binary)'],
  'wire.code': ['Close code', 'Close code'],
  'wire.reason': ['Lý do', 'Reason'],
  'wire.hello': ['Xin chào từ một frame viết tay', 'Hello from a frame made by hand'],
  'wire.badCode': [
    'Trang chỉ gửi được close code 1000 hoặc 3000 đến 4999, không gửi được {code}',
    'A page can send close code 1000 or 3000 to 4999, not {code}',
  ],
  'wire.longReason': ['Lý do quá dài (tối đa 123 byte)', 'The reason is too long (123 bytes at most)'],
  'wire.notOpen': ['Kết nối chưa mở.', 'The connection is not open.'],

  'theory.1': ['1. Handshake: từ HTTP sang WebSocket', '1. Handshake: from HTTP to WebSocket'],
  'theory.1.duplex': [
    'WebSocket là giao thức full-duplex (hai chiều đồng thời) qua một kết nối TCP. Nó bắt đầu bằng một request HTTP.',
    'WebSocket is full-duplex (both ways at once) over a single TCP connection. It starts as an HTTP request.',
  ],
  'theory.1.request': ['Client gửi HTTP Upgrade request', 'The client sends an HTTP Upgrade request'],
  'theory.1.response': ['Server phản hồi', 'The server answers'],
  'theory.1.after': [
    'Sau handshake, kết nối được nâng cấp từ HTTP lên WebSocket và giữ mở liên tục.',
    'After the handshake the connection is upgraded from HTTP to WebSocket and stays open.',
  ],
  'theory.1.key': [
    'Trình duyệt không cho trang thấy key thật: Key và Accept ở đây là ví dụ của RFC 6455.',
    'A browser does not show a page the real key: Key and Accept here are the example of RFC 6455.',
  ],

  'theory.2': ['2. Frame', '2. Frames'],
  'theory.2.type': ['Loại', 'Type'],
  'theory.2.opcode': ['Opcode', 'Opcode'],
  'theory.2.what': ['Mô tả', 'What it is'],
  'theory.2.try': ['Thử', 'Try'],
  'theory.2.text': ['Dữ liệu text (UTF-8), ví dụ JSON', 'Text (UTF-8), such as JSON'],
  'theory.2.binary': ['Dữ liệu binary (hình ảnh, file...)', 'Binary data (images, files...)'],
  'theory.2.close': ['Đóng kết nối, kèm code và lý do', 'Ends the connection, with code and reason'],
  'theory.2.ping': ['Hỏi xem bên kia còn sống không', 'Asks whether the other side is alive'],
  'theory.2.pong': ['Trả lời Ping', 'Answers a Ping'],
  'theory.2.send': ['Gửi', 'Send'],
  'theory.2.browser': ['tự động', 'automatic'],
  'theory.2.keepalive': [
    'Server gửi Ping định kỳ (mặc định 20 giây); không nhận được Pong thì kết nối bị coi là chết và bị đóng. Trang không thấy Ping và Pong, nên khi im lặng quá lâu nó tự hỏi bằng một message ping.',
    'The server sends a Ping every 20 s by default; without a Pong the connection is taken for dead and closed. A page sees neither, so after a long silence it asks with a ping message of its own.',
  ],

  'theory.3': ['3. Vì sao bất đồng bộ?', '3. Why asynchronous?'],
  'theory.3.sync': ['Đồng bộ', 'Synchronous'],
  'theory.3.async': ['Bất đồng bộ', 'Asynchronous'],
  'theory.3.sync.1': ['Mỗi thread xử lý một client', 'A thread serves one client'],
  'theory.3.async.1': ['Một thread xử lý mọi client', 'One thread serves all clients'],
  'theory.3.sync.2': ['Blocking I/O: chờ đợi', 'Blocking I/O: waits'],
  'theory.3.async.2': ['Non-blocking I/O: không chờ', 'Non-blocking I/O: does not wait'],
  'theory.3.sync.3': ['1 thread/client: tốn tài nguyên', 'A thread per client: costs resources'],
  'theory.3.async.3': ['Event loop: hiệu quả cao', 'Event loop: efficient'],
  'theory.3.here': ['Server này: {server}', 'This server: {server}'],
  'theory.3.measure': [
    'Số đo thật của hai cách: cargo run --release -p compare',
    'Both ways, measured: cargo run --release -p compare',
  ],
};

const LANGUAGES = ['vi', 'en'];

/**
 * What a browser may refuse to keep (private windows, blocked or full storage) is then only not remembered. The
 * storage may be shared with other people's pages, so our keys have a prefix, and what stands there may be anything.
 */
function memoryOf(storage) {
  return {
    get(key) {
      try { return window[storage].getItem(`wslab.${key}`); } catch { return null; }
    },
    set(key, value) {
      try { window[storage].setItem(`wslab.${key}`, value); } catch { /* not remembered */ }
    },
  };
}

const preferences = memoryOf('localStorage');

let language = preferences.get('language') === 'en' ? 'en' : 'vi';
document.documentElement.lang = language;

/** The text under `key` in the reader's language, its {placeholders} filled from `values`. */
function t(key, values = {}) {
  return TEXTS[key][LANGUAGES.indexOf(language)].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Whether there is a text of our own for what a server named; an unknown code falls back on the server's words. */
function hasText(key) {
  return Object.hasOwn(TEXTS, key);
}

const HOUR_MINUTE = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const WHOLE_DAY = { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' };

/** Kept, because making one takes longer than a whole message. Clock times are the same in both languages. */
const clockFormat = new Intl.DateTimeFormat('vi', { ...HOUR_MINUTE, second: '2-digit' });
const shortFormat = new Intl.DateTimeFormat('vi', HOUR_MINUTE);
const dayFormats = { vi: new Intl.DateTimeFormat('vi', WHOLE_DAY), en: new Intl.DateTimeFormat('en-GB', WHOLE_DAY) };

/** 14:03:27, as in the user's original pages. */
function clockTime(ts) {
  return clockFormat.format(ts);
}

function shortTime(ts) {
  return shortFormat.format(ts);
}

function dayName(ts) {
  return dayFormats[language].format(ts);
}

function translatePage() {
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const attribute of ['placeholder', 'aria-label']) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** For live texts, which are to be said anew. */
function onLanguageChange(render) {
  document.addEventListener('languagechange', render);
}

function setLanguage(chosen) {
  language = chosen;
  preferences.set('language', chosen);
  document.documentElement.lang = chosen;
  translatePage();
  document.dispatchEvent(new Event('languagechange'));
}

document.addEventListener('DOMContentLoaded', translatePage);
