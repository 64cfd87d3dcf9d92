'use strict';

/* The guide's sections 1 to 3 as cards of the wire view, each with what it speaks of on this very connection. */

/** RFC 6455 §1.3, and the guide: a page is not shown the key its browser really sent. */
const EXAMPLE_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const EXAMPLE_ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

const OPCODES = { text: '0x1', binary: '0x2', close: '0x8', ping: '0x9', pong: '0xA' };

const BLOCKING_EXAMPLE = `// thread-server
thread::spawn(move || loop {
    let message = client.read()?;
    room.lock().broadcast(message);
});`;

const EVENT_LOOP_EXAMPLE = `// evloop-server
loop {
    poll.poll(&mut events, timeout)?;
    for event in &events {
        room.handle(event);
    }
    room.flush();
}`;

function theoryCards(connection, example) {
  return [handshakeCard(connection), framesCard(connection, example), modelsCard(connection)];
}

function card(number, ...content) {
  const made = element('details', 'theory');
  made.id = `theory-${number}`;
  const summary = element('summary');
  summary.append(named('h3', `theory.${number}`));
  made.append(summary, ...content);
  return made;
}

function handshakeCard(connection) {
  const request = withId('wire-request', element('pre'));
  const response = withId('wire-response', element('pre'));
  connection.on('frame', ({ type, direction, url, extensions }) => {
    if (type !== 'handshake') return;
    if (direction === 'out') {
      const { host, pathname, search } = new URL(url);
      request.textContent = [`GET ${pathname}${search} HTTP/1.1`, `Host: ${host}`, 'Upgrade: websocket', 'Connection: Upgrade',
        `Sec-WebSocket-Key: ${EXAMPLE_KEY}`, 'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits'].join('\n');
    }
    response.textContent = direction === 'out' ? '...' : ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket',
      'Connection: Upgrade', `Sec-WebSocket-Accept: ${EXAMPLE_ACCEPT}`,
      ...(extensions ? [`Sec-WebSocket-Extensions: ${extensions}`] : [])].join('\n');
  });
  return card(1, named('p', 'theory.1.duplex'), named('h4', 'theory.1.request'), request,
    named('h4', 'theory.1.response'), response, named('p', 'theory.1.after'), named('p', 'theory.1.key', 'aside'));
}

function framesCard(connection, example) {
  const payload = withId('wire-payload', element('textarea'));
  const code = withId('wire-code', element('input'));
  const reason = withId('wire-reason', element('input'));
  Object.assign(payload, { rows: 3, spellcheck: false });
  Object.assign(code, { type: 'number', min: 1000, max: 4999, value: 1000 });
  const fault = element('p', 'wire-fault');
  fault.setAttribute('role', 'alert');

  const send = {
    text: () => connection.sendData(payload.value),
    binary: () => connection.sendData(new TextEncoder().encode(payload.value)),
    close: () => connection.close(Number(code.value), reason.value),
  };
  const attempt = (act) => {
    try {
      fault.textContent = connection.readyState === WebSocket.OPEN ? '' : t('wire.notOpen');
      act();
    } catch ({ name }) {
      // The WebSocket API refuses a close code that is not for pages, and a reason that fits no close frame.
      fault.textContent = t(name === 'SyntaxError' ? 'wire.longReason' : 'wire.badCode', { code: code.value });
    }
  };
  const table = tableOf(['theory.2.type', 'theory.2.opcode', 'theory.2.what', 'theory.2.try'], Object.entries(OPCODES).map(([type, opcode]) => {
    const name = withId(`frame-${type}`, element('strong', '', type[0].toUpperCase() + type.slice(1)));
    const sender = send[type]
      ? withId(`wire-send-${type}`, button('theory.2.send', 'link-button', () => attempt(send[type])))
      : named('span', 'theory.2.browser', 'aside');
    sender.setAttribute('aria-describedby', name.id);
    return [name, element('code', '', opcode), named('span', `theory.2.${type}`), sender];
  }));

  const fields = element('div', 'wire-fields');
  fields.append(labelled('wire.payload', payload), labelled('wire.code', code), labelled('wire.reason', reason));
  const made = card(2, table, fields, fault, named('p', 'theory.2.keepalive'));
  made.addEventListener('toggle', () => {
    payload.value ||= JSON.stringify(example());
  });
  return made;
}

function modelsCard(connection) {
  const rows = [1, 2, 3].map((row) => [named('span', `theory.3.sync.${row}`), named('span', `theory.3.async.${row}`)]);
  const here = element('p', 'here');
  const render = () => {
    const { server } = connection.state;
    here.hidden = !hasText(`server.${server}`);
    if (!here.hidden) here.textContent = t('theory.3.here', { server: t(`server.${server}`) });
  };
  connection.on('state', render);
  onLanguageChange(render);
  render();
  return card(3, tableOf(['theory.3.sync', 'theory.3.async'], rows), here,
    element('pre', '', BLOCKING_EXAMPLE), element('pre', '', EVENT_LOOP_EXAMPLE), named('p', 'theory.3.measure'));
}

function labelled(key, field) {
  const label = element('label', 'field');
  label.append(named('span', key), field);
  return label;
}
