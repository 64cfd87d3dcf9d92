'use strict';

/*
 * Every text the pages show, in Vietnamese and in English.
 *
 * A server sends codes; a page says them in its reader's language. Static texts are named in the markup:
 * data-t="key" fills an element, data-t-placeholder, data-t-title and data-t-aria-label an attribute.
 * The Vietnamese texts stand in the HTML too, so that the first paint needs no script.
 */

const TEXTS = {
  vi: {
    'nav.home': 'Trang chủ',
    'nav.chat': 'Chat',
    'nav.dashboard': 'Dashboard',
    'nav.label': 'Các trang',
    'switch.language': 'Switch to English',
    'switch.theme.auto': 'Giao diện: theo hệ thống',
    'switch.theme.light': 'Giao diện: sáng',
    'switch.theme.dark': 'Giao diện: tối',

    'status.connecting': 'Đang kết nối...',
    'status.open': 'Đã kết nối',
    'status.lost': 'Mất kết nối',
    'status.waiting': 'Kết nối lại sau {seconds}s...',
    'status.failed': 'Không thể kết nối. Vui lòng tải lại trang.',
    'status.refused': 'Server đã từ chối kết nối.',
    'status.refused.reason': 'Server đã từ chối kết nối: {reason}',
    'status.badServer': 'Địa chỉ server không hợp lệ: {url}',
    'status.attempt': 'Lần thử {attempt}/{attempts}',
    'status.retry': 'Kết nối ngay',

    'index.title': 'WebSocket Realtime Lab',
    'index.heading': 'WebSocket, nhìn tận mắt',
    'index.lead': 'Một giao thức, hai server viết bằng Rust: một event loop trên một thread, và một thread cho mỗi client. '
      + 'Mở các trang dưới đây ở hai tab, dừng server rồi chạy lại, và xem chuyện gì xảy ra.',
    'index.chat': 'Phòng chat: tin nhắn đến mọi tab ngay lập tức, không mất và không lặp khi kết nối lại.',
    'index.dashboard': 'Số liệu mỗi giây: nhiệt độ, cổ phiếu, CPU, vẽ trực tiếp bằng canvas.',
    'index.open': 'Mở',
    'index.try': 'Thử ngay',
    'index.try.broadcast': 'Mở chat ở hai tab, đặt hai tên khác nhau, gửi một tin: cả hai tab đều thấy.',
    'index.try.stream': 'Mở dashboard, bỏ tick một metric: chỉ metric được tick mới nhận data.',
    'index.try.reconnect': 'Dừng server (Ctrl+C): trang báo mất kết nối và tự thử lại. Chạy lại server: trang tự trở lại.',
    'index.try.limits': 'Gửi thật nhanh, rồi gửi tin rỗng: server từ chối, và nói vì sao.',
    'index.endpoints': 'Endpoint',
    'index.endpoint.chat': 'phòng chat',
    'index.endpoint.dashboard': 'luồng metric',
    'index.endpoint.echo': 'trả lại đúng những gì nhận được',
    'index.endpoint.healthz': 'server còn phục vụ không',
    'index.endpoint.metrics': 'số liệu của server, dạng Prometheus',

    'chat.title': 'Chat · WebSocket Realtime Lab',
    'chat.heading': 'Chat realtime',
    'chat.log': 'Tin nhắn',
    'chat.online': '{count} người online',
    'chat.name': 'Tên của bạn',
    'chat.name.placeholder': 'Tên của bạn...',
    'chat.message': 'Tin nhắn',
    'chat.message.placeholder': 'Nhập tin nhắn...',
    'chat.send': 'Gửi',
    'chat.wait': 'Đợi {seconds}s',
    'chat.me': 'Bạn',
    'chat.empty': 'Chưa có tin nhắn nào. Hãy là người đầu tiên.',
    'chat.pending': 'đang gửi',
    'chat.failed': 'chưa gửi được',
    'chat.unsure': 'mất kết nối, chưa rõ đã gửi hay chưa',
    'chat.retry': 'Gửi lại',
    'chat.gap': 'Có thể thiếu một số tin nhắn trong lúc mất kết nối.',
    'chat.lost': 'Mất kết nối với server.',

    'system.welcome': 'Chào mừng đến chat room! Hiện có {online_count} người online.',
    'system.joined': 'Một người dùng mới đã tham gia chat',
    'system.left': 'Một người dùng đã rời khỏi chat',

    'error.bad_json': 'Server không đọc được tin nhắn (JSON không hợp lệ)',
    'error.bad_message': 'Server không hiểu tin nhắn',
    'error.empty': 'Tên và nội dung không được để trống',
    'error.too_long': 'Tin nhắn quá dài (tối đa 500 ký tự)',
    'error.rate_limited': 'Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi {seconds} giây.',
    'error.unknown_metric': 'Server không biết metric này',

    'dashboard.title': 'Dashboard · WebSocket Realtime Lab',
    'dashboard.heading': 'Dashboard realtime',
    'dashboard.choose': 'Chọn metrics',
    'dashboard.updated': 'Cập nhật: {time}',
    'dashboard.off': 'Không theo dõi',
    'dashboard.waiting': 'Đang chờ dữ liệu',
    'dashboard.chart': 'Biểu đồ {metric}, 60 điểm gần nhất',

    'metric.temperature': 'Nhiệt độ',
    'metric.stock': 'Giá cổ phiếu',
    'metric.cpu': 'CPU',
  },

  en: {
    'nav.home': 'Home',
    'nav.chat': 'Chat',
    'nav.dashboard': 'Dashboard',
    'nav.label': 'Pages',
    'switch.language': 'Chuyển sang tiếng Việt',
    'switch.theme.auto': 'Theme: as the system',
    'switch.theme.light': 'Theme: light',
    'switch.theme.dark': 'Theme: dark',

    'status.connecting': 'Connecting...',
    'status.open': 'Connected',
    'status.lost': 'Connection lost',
    'status.waiting': 'Reconnecting in {seconds}s...',
    'status.failed': 'Cannot connect. Please reload the page.',
    'status.refused': 'The server refused the connection.',
    'status.refused.reason': 'The server refused the connection: {reason}',
    'status.badServer': 'Not a server address: {url}',
    'status.attempt': 'Attempt {attempt} of {attempts}',
    'status.retry': 'Connect now',

    'index.title': 'WebSocket Realtime Lab',
    'index.heading': 'WebSocket, seen at work',
    'index.lead': 'One protocol, two servers written in Rust: an event loop on one thread, and one thread per client. '
      + 'Open the pages below in two tabs, stop the server and start it again, and watch what happens.',
    'index.chat': 'A chat room: a message reaches every tab at once, and none is lost or doubled by a reconnect.',
    'index.dashboard': 'Figures every second: temperature, stock, CPU, drawn live on a canvas.',
    'index.open': 'Open',
    'index.try': 'Try it',
    'index.try.broadcast': 'Open the chat in two tabs under two names and send a message: both tabs show it.',
    'index.try.stream': 'Open the dashboard and untick a metric: only ticked metrics receive data.',
    'index.try.reconnect': 'Stop the server (Ctrl+C): the page says so and tries again. Start the server: the page is back.',
    'index.try.limits': 'Send very fast, then send nothing at all: the server refuses, and says why.',
    'index.endpoints': 'Endpoints',
    'index.endpoint.chat': 'the chat room',
    'index.endpoint.dashboard': 'the stream of metrics',
    'index.endpoint.echo': 'gives back what it was sent',
    'index.endpoint.healthz': 'whether the server is serving',
    'index.endpoint.metrics': 'the server\'s figures, as Prometheus text',

    'chat.title': 'Chat · WebSocket Realtime Lab',
    'chat.heading': 'Realtime chat',
    'chat.log': 'Messages',
    'chat.online': '{count} online',
    'chat.name': 'Your name',
    'chat.name.placeholder': 'Your name...',
    'chat.message': 'Message',
    'chat.message.placeholder': 'Write a message...',
    'chat.send': 'Send',
    'chat.wait': 'Wait {seconds}s',
    'chat.me': 'You',
    'chat.empty': 'No messages yet. Be the first.',
    'chat.pending': 'sending',
    'chat.failed': 'not sent',
    'chat.unsure': 'connection lost: may or may not have been sent',
    'chat.retry': 'Send again',
    'chat.gap': 'Some messages may be missing from while the connection was down.',
    'chat.lost': 'The connection to the server was lost.',

    'system.welcome': 'Welcome to the chat room! {online_count} online now.',
    'system.joined': 'Someone joined the chat',
    'system.left': 'Someone left the chat',

    'error.bad_json': 'The server could not read the message (invalid JSON)',
    'error.bad_message': 'The server did not understand the message',
    'error.empty': 'Name and message must not be empty',
    'error.too_long': 'The message is too long (500 characters at most)',
    'error.rate_limited': 'You are sending too fast. Please wait {seconds} s.',
    'error.unknown_metric': 'The server does not know this metric',

    'dashboard.title': 'Dashboard · WebSocket Realtime Lab',
    'dashboard.heading': 'Realtime dashboard',
    'dashboard.choose': 'Choose metrics',
    'dashboard.updated': 'Updated: {time}',
    'dashboard.off': 'Not watched',
    'dashboard.waiting': 'Waiting for data',
    'dashboard.chart': 'Chart of {metric}, the last 60 points',

    'metric.temperature': 'Temperature',
    'metric.stock': 'Stock price',
    'metric.cpu': 'CPU',
  },
};

/** What a browser may refuse to keep (private windows, blocked storage) is then only not remembered. */
const preferences = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(key, value); } catch { /* not remembered */ }
  },
};

let language = preferences.get('language') === 'en' ? 'en' : 'vi';
document.documentElement.lang = language;

/** The text under `key` in the reader's language, its {placeholders} filled from `values`. */
function t(key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Whether there is a text of our own for what a server named; an unknown code falls back on the server's words. */
function hasText(key) {
  return Object.hasOwn(TEXTS[language], key);
}

/** 14:03:27, the same in both languages and in the user's original pages. */
function clockTime(ts) {
  return new Intl.DateTimeFormat('vi', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(ts);
}

function translatePage() {
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const attribute of ['placeholder', 'title', 'aria-label']) {
    for (const element of document.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** Pages listen for `languagechange` on the document to say their live texts anew. */
function setLanguage(chosen) {
  language = chosen;
  preferences.set('language', chosen);
  document.documentElement.lang = chosen;
  translatePage();
  document.dispatchEvent(new Event('languagechange'));
}

document.addEventListener('DOMContentLoaded', () => {
  if (language !== 'vi') translatePage();
});
