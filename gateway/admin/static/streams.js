// Sends a call of the playground and reads its answer, streamed or not, in the three APIs.
import { ApiError, send } from "./base.js";

/** Yield the JSON values of server-sent events. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const events = waiting.split(/\r?\n\r?\n/);
    waiting = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

const usageOf = (usage) => usage && {
  prompt: usage.prompt_tokens ?? usage.input_tokens, output: usage.completion_tokens ?? usage.output_tokens,
};

const textsOf = (content) => (typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join(""));

/** Read one event or a whole answer of any of the APIs: its text, reasoning, tool calls, usage, receipt and error. */
export function read(value) {
  const found = { text: "", reasoning: "", tools: [], usage: usageOf(value.usage ?? value.response?.usage ?? value.message?.usage) ?? null, receipt: value.gateway ?? value.response?.gateway ?? null, error: null, finish: null };
  if (value.error || value.type === "error") found.error = value.error?.message ?? value.message ?? "The stream ended with an error.";
  for (const choice of value.choices ?? []) {
    const part = choice.delta ?? choice.message ?? {};
    found.text += textsOf(part.content);
    found.reasoning += part.reasoning_content ?? part.reasoning ?? "";
    found.tools.push(...(part.tool_calls ?? []).map((call) => `${call.function?.name ? `\n${call.function.name} ` : ""}${call.function?.arguments ?? ""}`));
    found.finish = choice.finish_reason ?? found.finish;
  }
  if (value.type === "content_block_delta") {
    found.text += value.delta?.text ?? "";
    found.reasoning += value.delta?.thinking ?? "";
    if (value.delta?.partial_json) found.tools.push(value.delta.partial_json);
  } else if (value.type === "content_block_start" && value.content_block?.type === "tool_use") found.tools.push(`\n${value.content_block.name} `);
  else if (value.type === "message") {
    found.text += textsOf(value.content);
    for (const block of value.content ?? []) if (block.type === "tool_use") found.tools.push(`\n${block.name} ${JSON.stringify(block.input)}`);
  }
  else if (value.type === "message_delta") found.finish = value.delta?.stop_reason ?? null;
  else if (value.type === "response.output_text.delta") found.text += value.delta;
  else if (value.type === "response.failed") found.error = value.response?.error?.message ?? "The response failed.";
  else if (value.type === "response.output_item.done" && value.item?.type === "function_call") found.tools.push(`\n${value.item.name} ${value.item.arguments}`);
  else if (value.type === "response.reasoning_text.delta" || value.type === "response.reasoning_summary_text.delta") found.reasoning += value.delta;
  if (value.object === "response") {
    for (const item of value.output ?? []) {
      if (item.type === "message") found.text += textsOf(item.content);
      else if (item.type === "reasoning") found.reasoning += textsOf(item.summary) + textsOf(item.content);
      else if (item.type === "function_call") found.tools.push(`\n${item.name} ${item.arguments}`);
    }
  }
  return found;
}

/**
 * Send a call and report its progress: `onChange` gets { phase, text, reasoning, tools, usage, receipt, error, finish, status, id, target,
 * firstMs, totalMs }. The phases are waiting, streaming, done, stopped and failed.
 */
export async function call(path, body, { key, signal, onChange }) {
  const started = performance.now();
  const headers = { "x-gateway-receipt": "body", ...(key ? { "x-virtual-key": key } : {}) };
  let state = { phase: "waiting", text: "", reasoning: "", tools: [], usage: null, receipt: null, error: null, finish: null, firstMs: null, totalMs: null };
  const change = (fields) => { state = { ...state, ...fields }; onChange(state); };
  const add = (found) => change({
    text: state.text + found.text, reasoning: state.reasoning + found.reasoning, tools: found.tools.length ? [...state.tools, ...found.tools] : state.tools,
    usage: found.usage ? { ...state.usage, ...Object.fromEntries(Object.entries(found.usage).filter(([, value]) => value !== undefined)) } : state.usage, receipt: found.receipt ?? state.receipt, error: found.error ?? state.error, finish: found.finish ?? state.finish,
    firstMs: state.firstMs ?? (found.text || found.reasoning || found.tools.length ? performance.now() - started : null),
  });
  change({});
  try {
    const response = await send("POST", `/admin/relay${path}`, body, { headers, signal });
    change({ status: response.status, id: response.headers.get("x-request-id"), target: response.headers.get("x-gateway-target"), phase: "streaming" });
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) for await (const event of eventsOf(response)) add(read(event));
    else {
      const answer = await response.json();
      if (!response.ok) change({ error: new ApiError(response.status, answer).message, receipt: answer.gateway ?? null });
      else add(read(answer));
    }
    change({ phase: state.error ? "failed" : "done", totalMs: performance.now() - started });
  } catch (error) {
    const isStopped = error?.name === "AbortError";
    change({ phase: isStopped ? "stopped" : "failed", error: isStopped ? null : error.message, totalMs: performance.now() - started });
  }
  return state;
}
