/* Mock upstream with minimal cost: one thread, epoll, responses as JSON or as a stream. The end of the path selects the API:
 * /messages, /responses, /embeddings, /rerank, /tokenize, /chat/completions and otherwise /completions. Messages and Responses
 * have more events.
 *
 * The request text contains the pacing commands, so that no proxy needs configuration for them:
 *   #chunks=51#  events of a stream, including [DONE]      #delay=500000#  microseconds between two events
 *   #form=1#     every content event lacks its object, creation time and index, and repeats the role
 *   #form=2#     every content event has an id, a creation time and a usage of its own
 *   #form=3#     every content event has a creation time and a member of its own, so that no two are alike
 * Each event is a separate send(). Usage: mock PORT (0: any); prints the port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 16384, MAX_REQUEST = 1 << 16, JSON_BYTES = 591, EVENT_BYTES = 195 };

typedef struct {
    char *request;
    int length, next, chunks, usage, form, api;
    long delay;
    double due;
} Connection;

static Connection connections[MAX_CONNECTIONS];
static int pacing[MAX_CONNECTIONS], paced; /* descriptors with an open stream */
enum { CHAT, COMPLETIONS, EMBEDDINGS, RERANK, TOKENIZE, MESSAGES, RESPONSES, APIS };
static const char *endings[APIS] = {"/chat/completions", "/completions", "/embeddings", "/rerank", "/tokenize", "/messages", "/responses"};
enum { ROLE, CONTENT, FINISH, USAGE, DONE, TEXT, TEXT_FINISH, TEXT_USAGE,
    MESSAGE_START, BLOCK_START, BLOCK_DELTA, BLOCK_STOP, MESSAGE_DELTA, MESSAGE_STOP,
    CREATED, ITEM_ADDED, PART_ADDED, PART_DELTA, TEXT_DONE, PART_DONE, ITEM_DONE, COMPLETED, KINDS };
static char answers[APIS][2048], events[KINDS][512];
static int answer_length[APIS], event_length[KINDS];

/* The first and the last events of a stream, and the event between them. Chat completions may have a usage event. */
typedef struct { int firsts, first[3], between, lasts, last[4]; } Script;
static const Script scripts[APIS] = {
    [CHAT] = {.firsts = 1, .first = {ROLE}, .between = CONTENT, .lasts = 3, .last = {FINISH, USAGE, DONE}},
    [COMPLETIONS] = {.between = TEXT, .lasts = 3, .last = {TEXT_FINISH, TEXT_USAGE, DONE}},
    [MESSAGES] = {.firsts = 2, .first = {MESSAGE_START, BLOCK_START}, .between = BLOCK_DELTA, .lasts = 3, .last = {BLOCK_STOP, MESSAGE_DELTA, MESSAGE_STOP}},
    [RESPONSES] = {.firsts = 3, .first = {CREATED, ITEM_ADDED, PART_ADDED}, .between = PART_DELTA, .lasts = 4, .last = {TEXT_DONE, PART_DONE, ITEM_DONE, COMPLETED}},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

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

static void drop(int fd) {
    for (int i = 0; i < paced; i++)
        if (pacing[i] == fd) pacing[i--] = pacing[--paced];
    free(connections[fd].request);
    memset(&connections[fd], 0, sizeof connections[fd]);
    close(fd);
}

static long number(const char *text, const char *name, long otherwise) {
    const char *found = strstr(text, name);
    return found ? atol(found + strlen(name)) : otherwise;
}

/* Send one event. Returns 0 if the peer has disconnected. It waits for a peer that does not read: the load generator has a deadline. */
static int send_all(int fd, const char *data, int length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) { usleep(50); continue; }
        if (sent <= 0) return 0;
        data += sent, length -= sent;
    }
    return 1;
}

/* Write content event `number` in an irregular form. Returns its length as a chunk of the body. */
static int irregular(char *out, int form, int number) {
    char event[512], before[512];
    if (form == 1)
        strcpy(before, "data: {\"id\":\"chatcmpl-bench\",\"model\":\"bench-model\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"");
    else
        sprintf(before, "data: {\"id\":\"%s%d\",\"object\":\"chat.completion.chunk\",\"created\":%d,\"model\":\"bench-model\",%s%d%s\"choices\":[{\"index\":0,"
            "\"delta\":{\"content\":\"", "chatcmpl-", form == 2 ? number : 0, 1700000000 + number, form == 2 ? "\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":" : "\"x",
            number + 1, form == 2 ? "}," : "\":1,");
    pad(event, before, "\"},\"finish_reason\":null}]}\n\n", form == 1 ? EVENT_BYTES : EVENT_BYTES + 30);
    return sprintf(out, "%x\r\n%s\r\n", (unsigned)strlen(event), event);
}

static int event_kind(const Connection *c) {
    const Script *script = &scripts[c->api];
    int left = c->chunks - c->next;
    if (c->next < script->firsts && !c->form) return script->first[c->next];
    if (c->api > COMPLETIONS || c->usage || left == 1) return left > script->lasts ? script->between : script->last[script->lasts - left];
    return left == 2 ? script->last[0] : script->between;
}

/* Send the next event if it is due. Returns 1 while the connection is open. Streams send one event per turn, so that each event
   arrives alone, like the tokens of a model. */
static int stream(int fd) {
    Connection *c = &connections[fd];
    if (c->next < c->chunks) {
        if (c->delay && c->next && now() < c->due) return 1;
        int kind = event_kind(c), own = c->form && kind == CONTENT;
        char event[600];
        int length = own ? irregular(event, c->form, c->next) : event_length[kind];
        if (!send_all(fd, own ? event : events[kind], length)) return 0;
        c->next++;
        c->due = now() + c->delay / 1e6;
        if (c->next < c->chunks) return 1;
    }
    c->chunks = 0;
    for (int i = 0; i < paced; i++)
        if (pacing[i] == fd) pacing[i--] = pacing[--paced];
    return 1;
}

static int answer(int fd, const char *body) {
    Connection *c = &connections[fd];
    const char *end = strstr(c->request, " HTTP/");
    for (c->api = 0; end && c->api < APIS; c->api++)
        if (end - c->request > (long)strlen(endings[c->api]) && !strncmp(end - strlen(endings[c->api]), endings[c->api], strlen(endings[c->api]))) break;
    if (!end || c->api == APIS) return 0;
    if (!strstr(body, "\"stream\":true") && !strstr(body, "\"stream\": true"))
        return send_all(fd, answers[c->api], answer_length[c->api]);
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    c->chunks = number(body, "#chunks=", 51) + (c->api == MESSAGES ? 2 : c->api == RESPONSES ? 4 : 0);
    c->delay = number(body, "#delay=", 0);
    c->form = number(body, "#form=", 0);
    c->usage = strstr(body, "include_usage") != NULL;
    c->next = 0;
    pacing[paced++] = fd;
    return send_all(fd, head, sizeof head - 1) && stream(fd);
}

/* Read received data. Returns 1 while the connection is open. */
static int receive(int fd) {
    Connection *c = &connections[fd];
    if (!c->request) c->request = malloc(MAX_REQUEST + 1);
    ssize_t got = recv(fd, c->request + c->length, MAX_REQUEST - c->length, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (got <= 0) return 0;
    c->length += got;
    c->request[c->length] = 0;
    char *end = strstr(c->request, "\r\n\r\n");
    if (!end) return c->length < MAX_REQUEST;
    char *header = strcasestr(c->request, "content-length:");
    long size = header && header < end ? atol(header + 15) : 0;
    if (size > MAX_REQUEST / 2) return 0;
    if (end + 4 + size > c->request + c->length) return 1;
    int alive = answer(fd, end + 4);
    c->length = 0;
    free(c->request);
    c->request = NULL;
    return alive;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) { perror("mock"); exit(1); }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(int poll, int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_CONNECTIONS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

int main(int argc, char **argv) {
    struct epoll_event ready[512];
    prepare_chat();
    prepare_messages();
    prepare_responses();
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0), poll = epoll_create1(0);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (;;) {
        int patience = paced ? 1 : -1;
        for (int i = 0; i < paced && patience; i++)
            if (!connections[pacing[i]].delay) patience = 0;
        int count = epoll_wait(poll, ready, 512, patience);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener) accept_all(poll, listener);
            else if (!receive(ready[i].data.fd)) drop(ready[i].data.fd);
        }
        for (int i = paced - 1; i >= 0; i--) {
            if (i >= paced) continue;
            int fd = pacing[i];
            if (!stream(fd)) drop(fd);
        }
    }
}
