/* The responses of the mock upstream, built once at its start: sizes are the same in every run. */
#include <stdio.h>
#include <string.h>

enum { JSON_BYTES = 591, EVENT_BYTES = 195 };
enum { CHAT, COMPLETIONS, EMBEDDINGS, RERANK_V2, RERANK, TOKENIZE, COHERE, MESSAGES, RESPONSES, APIS };
static const char *endings[APIS] = {"/chat/completions", "/completions", "/embeddings", "/v2/rerank", "/rerank", "/tokenize", "/v2/chat", "/messages", "/responses"};
enum { ROLE, CONTENT, FINISH, USAGE, DONE, TEXT, TEXT_FINISH, TEXT_USAGE,
    MESSAGE_START, BLOCK_START, BLOCK_DELTA, BLOCK_STOP, MESSAGE_DELTA, MESSAGE_STOP,
    TEXT_START, TEXT_BEGIN, TEXT_DELTA, TEXT_END, TEXT_STOP,
    CREATED, ITEM_ADDED, PART_ADDED, PART_DELTA, TEXT_DONE, PART_DONE, ITEM_DONE, COMPLETED, KINDS };
static char answers[APIS][2048], events[KINDS][512];
static int answer_length[APIS], event_length[KINDS];

/* The first and the last events of a stream, and the event that is repeated between them. Chat and text completions have the
 * usage event only if the request asks for it. */
typedef struct { int firsts, first[3], between, lasts, last[4]; } Script;
static const Script scripts[APIS] = {
    [CHAT] = {.firsts = 1, .first = {ROLE}, .between = CONTENT, .lasts = 3, .last = {FINISH, USAGE, DONE}},
    [COMPLETIONS] = {.between = TEXT, .lasts = 3, .last = {TEXT_FINISH, TEXT_USAGE, DONE}},
    [COHERE] = {.firsts = 2, .first = {TEXT_START, TEXT_BEGIN}, .between = TEXT_DELTA, .lasts = 3, .last = {TEXT_END, TEXT_STOP, DONE}},
    [MESSAGES] = {.firsts = 2, .first = {MESSAGE_START, BLOCK_START}, .between = BLOCK_DELTA, .lasts = 3, .last = {BLOCK_STOP, MESSAGE_DELTA, MESSAGE_STOP}},
    [RESPONSES] = {.firsts = 3, .first = {CREATED, ITEM_ADDED, PART_ADDED}, .between = PART_DELTA, .lasts = 4, .last = {TEXT_DONE, PART_DONE, ITEM_DONE, COMPLETED}},
};

/* Pad `before` + `after` with dots to `size` bytes, so that sizes are the same in every run. */
static void pad(char *out, const char *before, const char *after, int size) {
    int room = size - (int)strlen(before) - (int)strlen(after);
    char dots[1024];
    memset(dots, '.', sizeof dots);
    sprintf(out, "%s%.*s%s", before, room < 0 ? 0 : room, dots, after);
}

static void chunk(int kind, const char *data) {
    event_length[kind] = sprintf(events[kind], "%x\r\n%s\r\n%s", (unsigned)strlen(data), data, kind == DONE || kind == MESSAGE_STOP || kind == COMPLETED ? "0\r\n\r\n" : "");
}

static void json(int api, const char *before, const char *after) {
    char body[1024];
    pad(body, before, after, JSON_BYTES);
    answer_length[api] = sprintf(answers[api], "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", (int)strlen(body), body);
}

static void padded_chunk(int kind, const char *before, const char *after) {
    char event[512];
    pad(event, before, after, EVENT_BYTES);
    chunk(kind, event);
}

static void prepare_chat(void) {
#define REPORTED "\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":50,\"total_tokens\":350}}"
    json(CHAT, "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench-model\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"", "\"},\"finish_reason\":\"stop\"}]," REPORTED);
#define HEAD "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench-model\",\"choices\":["
#define STREAMED "],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":48,\"total_tokens\":348}}\n\n"
    chunk(ROLE, HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
    padded_chunk(CONTENT, HEAD "{\"index\":0,\"delta\":{\"content\":\"", "\"},\"finish_reason\":null}]}\n\n");
    chunk(FINISH, HEAD "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    chunk(USAGE, HEAD STREAMED);
    chunk(DONE, "data: [DONE]\n\n");
#define COMPLETION "{\"id\":\"cmpl-bench\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"bench-model\",\"choices\":["
    json(COMPLETIONS, COMPLETION "{\"index\":0,\"text\":\"", "\",\"logprobs\":null,\"finish_reason\":\"stop\"}]," REPORTED);
    padded_chunk(TEXT, "data: " COMPLETION "{\"index\":0,\"text\":\"", "\",\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    chunk(TEXT_FINISH, "data: " COMPLETION "{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
    chunk(TEXT_USAGE, "data: " COMPLETION STREAMED);
    json(EMBEDDINGS, "{\"object\":\"list\",\"model\":\"bench-model\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-0.25,0.125]}],\"x\":\"",
        "\",\"usage\":{\"prompt_tokens\":300,\"total_tokens\":300}}");
    json(RERANK, "{\"id\":\"rerank-bench\",\"model\":\"bench-model\",\"results\":[{\"index\":1,\"relevance_score\":0.75},"
        "{\"index\":0,\"relevance_score\":0.25}],\"x\":\"", "\",\"usage\":{\"prompt_tokens\":300,\"total_tokens\":300}}");
    json(TOKENIZE, "{\"count\":8,\"max_model_len\":4096,\"tokens\":[1,2,3,4,5,6,7,8],\"x\":\"", "\"}");
}

static void prepare_messages(void) {
#define MESSAGE "\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench-model\","
    json(MESSAGES, "{" MESSAGE "\"content\":[{\"type\":\"text\",\"text\":\"", "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
        "\"usage\":{\"input_tokens\":300,\"output_tokens\":50}}");
    chunk(MESSAGE_START, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{" MESSAGE "\"content\":[],\"stop_reason\":null,"
        "\"stop_sequence\":null,\"usage\":{\"input_tokens\":300,\"output_tokens\":1}}}\n\n");
    chunk(BLOCK_START, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
        "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    padded_chunk(BLOCK_DELTA, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
        "\"}}\n\n");
    chunk(BLOCK_STOP, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
    chunk(MESSAGE_DELTA, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
        "\"usage\":{\"output_tokens\":48}}\n\n");
    chunk(MESSAGE_STOP, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

static void prepare_cohere(void) {
#define BILLED "{\"billed_units\":{\"input_tokens\":300,\"output_tokens\":50},\"tokens\":{\"input_tokens\":300,\"output_tokens\":50}}"
#define COHERE_EVENT(name) "event: " name "\ndata: {\"type\":\"" name "\","
    json(RERANK_V2, "{\"id\":\"rerank-bench\",\"results\":[{\"index\":1,\"relevance_score\":0.75},{\"index\":0,\"relevance_score\":0.25}],\"x\":\"",
        "\",\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":{\"search_units\":1}}}");
    json(COHERE, "{\"id\":\"cohere-bench\",\"finish_reason\":\"COMPLETE\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"",
        "\"}]},\"usage\":" BILLED "}");
    chunk(TEXT_START, COHERE_EVENT("message-start") "\"id\":\"cohere-bench\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_plan\":\"\","
        "\"tool_calls\":[],\"citations\":[]}}}\n\n");
    chunk(TEXT_BEGIN, COHERE_EVENT("content-start") "\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\n");
    padded_chunk(TEXT_DELTA, COHERE_EVENT("content-delta") "\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"", "\"}}}}\n\n");
    chunk(TEXT_END, COHERE_EVENT("content-end") "\"index\":0}\n\n");
    chunk(TEXT_STOP, COHERE_EVENT("message-end") "\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":" BILLED "}}\n\n");
}

static void prepare_responses(void) {
#define RESPONSE "\"id\":\"resp_benchbenchbenchbench\",\"object\":\"response\",\"created_at\":1700000000,\"model\":\"bench-model\","
#define ITEM "\"type\":\"message\",\"id\":\"msg_bench\",\"role\":\"assistant\","
#define PLACE "\"item_id\":\"msg_bench\",\"output_index\":0,\"content_index\":0,"
#define EVENT(name) "event: response." name "\ndata: {\"type\":\"response." name "\",\"sequence_number\":1,"
    json(RESPONSES, "{" RESPONSE "\"status\":\"completed\",\"output\":[{" ITEM "\"status\":\"completed\",\"content\":[{\"type\":\"output_text\","
        "\"annotations\":[],\"text\":\"", "\"}]}],\"usage\":{\"input_tokens\":300,\"output_tokens\":50,\"total_tokens\":350}}");
    chunk(CREATED, EVENT("created") "\"response\":{" RESPONSE "\"status\":\"in_progress\",\"output\":[]}}\n\n");
    chunk(ITEM_ADDED, EVENT("output_item.added") "\"output_index\":0,\"item\":{" ITEM "\"status\":\"in_progress\",\"content\":[]}}\n\n");
    chunk(PART_ADDED, EVENT("content_part.added") PLACE "\"part\":{\"type\":\"output_text\",\"annotations\":[],\"text\":\"\"}}\n\n");
    padded_chunk(PART_DELTA, EVENT("output_text.delta") PLACE "\"delta\":\"", "\"}\n\n");
    chunk(TEXT_DONE, EVENT("output_text.done") PLACE "\"text\":\"text\"}\n\n");
    chunk(PART_DONE, EVENT("content_part.done") PLACE "\"part\":{\"type\":\"output_text\",\"annotations\":[],\"text\":\"text\"}}\n\n");
    chunk(ITEM_DONE, EVENT("output_item.done") "\"output_index\":0,\"item\":{" ITEM "\"status\":\"completed\",\"content\":[]}}\n\n");
    chunk(COMPLETED, EVENT("completed") "\"response\":{" RESPONSE "\"status\":\"completed\",\"output\":[],"
        "\"usage\":{\"input_tokens\":300,\"output_tokens\":48,\"total_tokens\":348}}}\n\n");
}

