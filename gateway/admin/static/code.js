// The same call as a command or a program.

/** The address of the callers' API as this browser would reach it: a listener on all interfaces has the host of the page. */
const origin = () => (globalThis.lockgateCallers?.url ?? location.origin).replace(/\/\/(0\.0\.0\.0|\[::\])(?=:|$)/, `//${location.hostname}`);
const needsKey = () => globalThis.lockgateCallers?.requires_keys ?? false;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function commandOf(path, body) {
  const key = needsKey() ? ` \\\n  -H 'authorization: Bearer YOUR-KEY'` : "";
  return `curl ${origin()}${path}${key} \\\n  -H 'content-type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;
}

/** JSON as a Python literal. */
export function python(value, indent = "    ") {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((each) => `${indent}    ${python(each, `${indent}    `)},\n`).join("")}${indent}]` : "[]";
  if (typeof value === "object") {
    const entries = Object.entries(value);
    return entries.length ? `{\n${entries.map(([name, each]) => `${indent}    ${JSON.stringify(name)}: ${python(each, `${indent}    `)},\n`).join("")}${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

const CALLS = {
  "/v1/chat/completions": { python: "chat.completions.create", known: ["model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "metadata", "store", "reasoning_effort", "verbosity", "service_tier", "modalities", "audio", "prediction", "safety_identifier", "prompt_cache_key", "web_search_options", "functions", "function_call"] },
  "/v1/responses": { python: "responses.create", known: ["model", "input", "instructions", "stream", "temperature", "top_p", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "truncation", "store", "user", "metadata", "include", "previous_response_id", "service_tier", "top_logprobs", "safety_identifier", "prompt_cache_key", "max_tool_calls"] },
  "/v1/messages": { python: "messages.create", known: ["model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "service_tier"] },
};

/** Return the program of a call with the vendor's own package. Parameters that the package does not name go into extra_body. */
export function programs(path, body) {
  const call = CALLS[path];
  const key = needsKey() ? "YOUR-KEY" : "unused";
  const named = Object.entries(body).filter(([name]) => call.known.includes(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !call.known.includes(name)));
  const args = named.map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const more = Object.keys(extra).length ? `    extra_body=${python(extra)},\n` : "";
  const isMessages = path === "/v1/messages";
  const base = isMessages ? origin() : `${origin()}/v1`;
  const client = isMessages ? "Anthropic" : "OpenAI";
  const module = client.toLowerCase();
  const print = body.stream ? "for event in answer:\n    print(event)" : "print(answer)";
  const log = body.stream ? "for await (const event of answer) console.log(event);" : "console.log(answer);";
  const from = isMessages ? `import Anthropic from "@anthropic-ai/sdk";` : `import OpenAI from "openai";`;
  return {
    curl: commandOf(path, body),
    python: `from ${module} import ${client}\n\nclient = ${client}(base_url=${JSON.stringify(base)}, api_key=${JSON.stringify(key)})\nanswer = client.${call.python}(\n${args}${more})\n${print}\n`,
    node: `${from}\n\nconst client = new ${client}({ baseURL: ${JSON.stringify(base)}, apiKey: ${JSON.stringify(key)} });\nconst answer = await client.${call.python}(${JSON.stringify(body, null, 2)});\n${log}\n`,
  };
}
