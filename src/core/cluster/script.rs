//! What Redis does in one step, as scripts.

/// Appends a message to the stream, or knows it already; answers with its id.
///
/// A node whose epoch is another, or which has read further than the stream reaches, is refused (`EPOCH`): it does not know
/// yet that the log was rewound. What makes two messages the same is hashed with its lengths, so that no name runs into a
/// `cid`; it is remembered for exactly as long as its message stands in the stream.
///
/// Keys: stream, known messages, epoch. Arguments: epoch, last id read, entries kept, by, ts, name, text and, where the
/// sender wants an acknowledgement, cid.
pub(crate) const PUBLISH: &str = "\
local stream, known, epoch = KEYS[1], KEYS[2], KEYS[3]
local kept, by, ts, name, text, cid = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if redis.call('GET', epoch) ~= ARGV[1] then
  return redis.error_reply('EPOCH has changed')
end
local same
if cid then
  same = redis.sha1hex(#name .. ':' .. name .. #cid .. ':' .. cid .. text)
  local id = redis.call('ZSCORE', known, same)
  if id then return tonumber(id) end
end
local id, after = 1, ''
local tip = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if tip then
  id, after = tonumber(string.match(tip[1], '^%d+')) + 1, tip[2][2]
end
if id <= tonumber(ARGV[2]) then
  return redis.error_reply('EPOCH must change: the log was rewound')
end
redis.call('XADD', stream, 'MAXLEN', '=', kept, string.format('%.0f-0', id),
  'by', by, 'after', after, 'ts', ts, 'name', name, 'text', text, 'cid', cid or '')
if same then
  redis.call('ZADD', known, id, same)
  redis.call('ZREMRANGEBYSCORE', known, '-inf', id - kept)
end
return id
";

/// Gives the log a new epoch, unless another node has done so; answers with the epoch that stands now.
///
/// Keys: epoch. Arguments: the epoch known, a new one.
pub(crate) const REPLACE_EPOCH: &str = "\
local epoch = redis.call('GET', KEYS[1])
if epoch and epoch ~= ARGV[1] then return epoch end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
";

/// A sign of life with the number of this node's clients; answers with how many clients and nodes there are, and with the
/// simulated metrics, which the node that holds the lease writes.
///
/// Keys: nodes, lease, metrics. Arguments: node, clients, how long this is valid (ms), temperature, stock.
pub(crate) const HEARTBEAT: &str = "\
local nodes, lease, metrics = KEYS[1], KEYS[2], KEYS[3]
local node, clients, valid = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', nodes, node, clients .. ' ' .. string.format('%.0f', now + valid))
local all, online, alive = redis.call('HGETALL', nodes), 0, 0
for i = 1, #all, 2 do
  local count, expires = string.match(all[i + 1], '^(%d+) (%d+)$')
  if expires and tonumber(expires) >= now then
    online, alive = online + tonumber(count), alive + 1
  else
    redis.call('HDEL', nodes, all[i])
  end
end
local holder = redis.call('GET', lease)
if not holder or holder == node then
  redis.call('SET', lease, node, 'PX', valid)
  redis.call('SET', metrics, ARGV[4] .. ' ' .. ARGV[5])
end
return {online, alive, redis.call('GET', metrics) or ''}
";
