// The stream helper of the openai npm package assembles the stream of each model. Prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });
const answers = [];
for (const { model, prompt, tools, n } of JSON.parse(process.env.CALLS)) {
  try {
    const stream = client.chat.completions.stream({
      model, n, tools, messages: [{ role: "user", content: prompt }], stream_options: { include_usage: true },
    });
    const roles = [];
    for await (const chunk of stream) roles.push(...chunk.choices.map((choice) => choice.delta.role).filter(Boolean));
    const answer = await stream.finalChatCompletion();
    answers.push({
      text: answer.choices.map((choice) => choice.message.content ?? ""),
      calls: answer.choices.map((choice) => (choice.message.tool_calls ?? []).map((call) => [call.function.name, JSON.parse(call.function.arguments)])),
      finish: answer.choices.map((choice) => choice.finish_reason),
      usage: answer.usage ? [answer.usage.prompt_tokens, answer.usage.completion_tokens] : null,
      roles,
    });
  } catch (error) {
    answers.push({ error: String(error) });
  }
}
console.log(JSON.stringify({ answers }));
