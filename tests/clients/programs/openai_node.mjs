// The openai npm package: an answer, a stream, an error and a disconnect. Prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 120_000 });
const model = process.env.MODEL;
const messages = [{ role: "user", content: "What is the capital of France?" }];

const answer = await client.chat.completions.create({ model, messages, max_tokens: 12 });
const pieces = [];
const roles = [];
let usage = null;
for await (const chunk of await client.chat.completions.create({
  model, messages, max_tokens: 12, stream: true, stream_options: { include_usage: true },
})) {
  if (chunk.choices.length === 0) usage = chunk.usage;
  else {
    if (chunk.choices[0].delta.role) roles.push(chunk.choices[0].delta.role);
    if (chunk.choices[0].delta.content) pieces.push(chunk.choices[0].delta.content);
  }
}

const refused = await client.chat.completions.create({ model, messages: "hello" }).catch((error) => error);

const leaving = await client.chat.completions.create({
  model, stream: true, max_tokens: 1000, messages: [{ role: "user", content: "Tell me a long story. #chunks=1000##delay=20ms#" }],
});
let before = 0;
for await (const chunk of leaving) {
  if (chunk.choices.length && ++before === 3) break;
}

const models = [];
for await (const listed of client.models.list()) models.push(listed.id);

console.log(JSON.stringify({
  text: answer.choices[0].message.content,
  finish: answer.choices[0].finish_reason,
  streamed: pieces.join(""),
  pieces: pieces.length,
  roles,
  usage_tokens: usage?.completion_tokens,
  request_id: answer._request_id,
  error: { class: refused.constructor.name, status: refused.status, param: refused.param, request_id: refused.requestID },
  left_after: before,
  models,
}));
