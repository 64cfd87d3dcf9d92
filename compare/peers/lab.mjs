// Part 1 of the lab's protocol, for the JavaScript peers: what is checked and what is said. No sockets in here.

export const CHAT_INTERVAL_MS = Number(process.argv[2] ?? 1000);
export const NOTICE_LIMIT = 500;
const METRICS = ['temperature', 'stock', 'cpu'];

export const system = (text, more) => JSON.stringify({ type: 'system', text, ts: Date.now(), ...more });
const error = (text) => JSON.stringify({ type: 'error', text, ts: Date.now() });

export const joined = (online) => system('Một người dùng mới đã tham gia chat', { online_count: online });
export const left = (online) => system('Một người dùng đã rời khỏi chat', { online_count: online });
export const welcome = (online) =>
  system(`Chào mừng đến chat room! Hiện có ${online} người online.`, { online_count: online });
export const dashboardWelcome = () =>
  system('Kết nối dashboard thành công. Đang nhận dữ liệu realtime...', { subscribed: METRICS });

/** Lengths are counted in Unicode scalar values. */
const length = (text) => { let count = 0; for (const _ of text) count++; return count; };

function parse(raw, type) {
  let message;
  try { message = JSON.parse(raw); } catch { return { refusal: error('Invalid JSON format') }; }
  if (message === null || typeof message !== 'object' || Array.isArray(message) || message.type !== type) {
    return { refusal: error('Invalid message type') };
  }
  return { message };
}

/** What a chat client said: `{ broadcast }` for everyone, or `{ refusal }` for itself. */
export function chat(raw, client) {
  const { message, refusal } = parse(raw, 'chat');
  if (refusal) return { refusal };
  let { name = '', text = '' } = message;
  if (typeof name !== 'string' || typeof text !== 'string') return { refusal: error('Invalid message type') };
  name = name.trim();
  text = text.trim();
  if (!name || !text) return { refusal: error('Tên và nội dung không được để trống') };
  // A string has at least as many UTF-16 units as scalar values: count only where it could matter.
  if (text.length > 500 && length(text) > 500) return { refusal: error('Tin nhắn quá dài (tối đa 500 ký tự)') };
  if (name.length > 50) name = [...name].slice(0, 50).join('');
  const now = performance.now();
  if (now - client.acceptedAt < CHAT_INTERVAL_MS) {
    return { refusal: error('Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây.') };
  }
  client.acceptedAt = now;
  return { broadcast: JSON.stringify({ type: 'chat', name, text, ts: Date.now() }) };
}

/** What a dashboard client asked for: `{ wanted, answer }`, or `{ refusal }`. */
export function subscribe(raw) {
  const { message, refusal } = parse(raw, 'subscribe');
  if (refusal) return { refusal };
  const wanted = METRICS.filter((metric) => (message.metrics ?? []).includes(metric));
  return { wanted, answer: system(`Đã subscribe: ${wanted.join(', ')}`, { subscribed: wanted }) };
}

export const newClient = (path) => ({ path, acceptedAt: -Infinity, wanted: METRICS });

const hold = (value, low, high) => Math.min(high, Math.max(low, value));
const uniform = (low, high) => low + Math.random() * (high - low);
const values = { temperature: 25, stock: 100, cpu: 30 };

/** One tick of the dashboard: `[metric, message]` for each metric, all with the same time. */
export function tick() {
  values.temperature = hold(values.temperature + uniform(-1.5, 1.5), 20, 35);
  values.stock = hold(values.stock * uniform(0.98, 1.02), 50, 200);
  values.cpu = hold(values.cpu + uniform(-10, 10), 10, 90);
  const ts = Date.now();
  return METRICS.map((metric) => {
    const value = Math.round(values[metric] * 100) / 100;
    return [metric, JSON.stringify({ type: 'metric', metric, value, ts })];
  });
}
