// Connects to the realtime API with the openai package and Node's own WebSocket, whose key is in a subprotocol.
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";

const client = new OpenAI({ dangerouslyAllowBrowser: true });
const realtime = new OpenAIRealtimeWebSocket({ model: process.env.MODEL, dangerouslyAllowBrowser: true }, client);
let text = "";
realtime.on("error", (error) => { console.error(error); process.exit(1); });
realtime.on("response.output_text.delta", (event) => { text += event.delta; });
realtime.on("response.done", (event) => {
  realtime.socket.addEventListener("close", (closed) => {
    console.log(JSON.stringify({ text, usage: event.response.usage.total_tokens, code: closed.code, protocol: realtime.socket.protocol }));
  });
  realtime.close({ code: 1000, reason: "OK" });
});
realtime.socket.addEventListener("open", () => realtime.send({ type: "response.create" }));
