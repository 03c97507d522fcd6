// Vercel AI SDK with its openai-compatible provider: text, a stream, an object and a tool call. Prints one JSON object.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, Output, streamText, tool } from "ai";

const gateway = createOpenAICompatible({
  name: "gateway",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = gateway(process.env.MODEL);
const prompt = "What is the capital of France?";
const common = { model, maxRetries: 0, maxOutputTokens: 12 };
const out = {};

const answer = await generateText({ ...common, prompt });
out.text = answer.text;
out.finish = answer.finishReason;

const stream = streamText({ ...common, prompt });
const pieces = [];
for await (const piece of stream.textStream) pieces.push(piece);
out.streamed = pieces.join("");
out.pieces = pieces.length;
out.usage_tokens = (await stream.usage).outputTokens;

if (process.env.STRUCTURED) {
  const schema = jsonSchema({
    type: "object",
    properties: { city: { type: "string", maxLength: 40 }, country: { type: "string", maxLength: 40 } },
    required: ["city", "country"],
    additionalProperties: false,
  });
  out.object = (await generateText({ ...common, maxOutputTokens: 120, prompt, output: Output.object({ schema }) })).output;
  const weather = tool({
    description: "The weather in a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string", maxLength: 40 } }, required: ["city"] }),
  });
  const called = await generateText({
    ...common, maxOutputTokens: 100, prompt: "What is the weather in Paris?", tools: { get_weather: weather }, toolChoice: "required",
  });
  out.tool = { name: called.toolCalls[0].toolName, input: called.toolCalls[0].input };
}

const refused = await generateText({ ...common, model: gateway("no-such-model:\n"), prompt }).catch((error) => error);
out.error = { is_api_error: APICallError.isInstance(refused), status: refused.statusCode };
console.log(JSON.stringify(out));
