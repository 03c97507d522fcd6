// Every kind of call over each API with the Vercel AI SDK. Prints the result of each cell of the table, like api_matrix.py.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";

const { ORIGIN, KEY, MODEL, EXPECTED, IMAGES, ANY_NAME } = process.env;
const at = { baseURL: `${ORIGIN}/v1`, apiKey: KEY };
const openai = createOpenAI(at);
const APIS = { chat: openai.chat, responses: openai.responses, messages: createAnthropic(at) };
const IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=";
const PNG = Buffer.from(IMAGE, "base64");
const prompt = "What is the capital of France?";
const common = { maxRetries: 0, maxOutputTokens: 200 };
const properties = { city: { type: "string", maxLength: 40 } };
const city = { type: "object", properties, required: ["city"], additionalProperties: false };
const tools = { get_weather: tool({ description: "The weather in a city", inputSchema: jsonSchema(city) }) };

async function streamed(request) {
  const stream = streamText({ ...common, onError: () => {}, ...request });
  const pieces = [];
  for await (const part of stream.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") pieces.push(part.text);
  }
  return { pieces, text: await stream.text, toolCalls: await stream.toolCalls, usage: await stream.usage };
}

const CHECKS = {
  async json(api) {
    const answer = await generateText({ ...common, model: api(MODEL), prompt });
    assert.ok(answer.text.includes(EXPECTED), answer.text);
    assert.ok(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0, JSON.stringify(answer.usage));
  },
  async stream(api) {
    const request = { model: api(MODEL), prompt, temperature: 0 };
    const [whole, stream] = [await generateText({ ...common, ...request }), await streamed(request)];
    assert.ok(stream.pieces.length > 3, String(stream.pieces.length));
    assert.equal(stream.text, whole.text);
    assert.equal(stream.pieces.join(""), whole.text);
    for (const kind of ["inputTokens", "outputTokens"]) assert.equal(stream.usage[kind], whole.usage[kind]);
  },
  async tools(api) {
    const asked = "What is the weather in 'Paris'?";
    const request = { ...common, model: api(MODEL), prompt: asked, tools, toolChoice: "required" };
    for (const answer of [await generateText(request), await streamed(request)]) {
      assert.deepEqual(answer.toolCalls.map((call) => call.toolName), ["get_weather"]);
      assert.deepEqual(Object.keys(answer.toolCalls[0].input), ["city"]);
      assert.equal(typeof answer.toolCalls[0].input.city, "string");
    }
  },
  async images(api) {
    const content = [{ type: "text", text: "What is this?" }, { type: "file", data: PNG, mediaType: "image/png" }];
    const answer = generateText({ ...common, model: api(MODEL), messages: [{ role: "user", content }] });
    if (IMAGES) return assert.ok((await answer).text.includes(EXPECTED));
    await assert.rejects(answer, (error) => error.statusCode === 400 && /image/i.test(error.message));
  },
  async error(api) {
    const unknown = ANY_NAME ? [] : [[404, "none", 10]];
    for (const [status, model, limit] of [...unknown, [400, MODEL, 999999999999999]]) {
      for (const call of [generateText, streamed]) {
        const failed = call({ ...common, model: api(model), prompt, maxOutputTokens: limit });
        await assert.rejects(failed, (error) => APICallError.isInstance(error) && error.statusCode === status);
      }
    }
  },
  async abort(api) {
    const abort = new AbortController();
    const endless = { prompt: "Tell a very long story without end.", abortSignal: abort.signal };
    const stream = streamText({ ...common, model: api(MODEL), ...endless });
    const kinds = [];
    for await (const part of stream.fullStream) {
      kinds.push(part.type);
      if (part.type === "text-delta") abort.abort();
    }
    assert.equal(kinds.at(-1), "abort");
    await CHECKS.json(api);
  },
};

const table = {};
for (const [name, api] of Object.entries(APIS)) {
  for (const [kind, check] of Object.entries(CHECKS)) {
    table[`${name} ${kind}`] = await check(api).then(() => "ok", (error) => String(error).slice(0, 500));
  }
}
console.log(JSON.stringify(table));
