import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * A producer over RocketMQ's gRPC, which knows nothing of traces.
 *
 * <p>Arguments: the proxy's address, a topic, and how many messages. Their bodies are the numbers from 0.
 */
public final class GrpcProducer {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private GrpcProducer() {}

    public static void main(String[] arguments) throws Exception {
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        ClientConfiguration configuration = ClientConfiguration.newBuilder()
            .setEndpoints(arguments[0])
            .enableSsl(false)
            .setRequestTimeout(PATIENCE)
            .build();
        try (Producer producer = provider.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(arguments[1])
                .build()) {
            for (int number = 0; number < Integer.parseInt(arguments[2]); number++) {
                byte[] body = Integer.toString(number).getBytes(StandardCharsets.UTF_8);
                producer.send(provider.newMessageBuilder().setTopic(arguments[1]).setBody(body).build());
            }
        }
        // Threads of the client would keep the machine running.
        System.exit(0);
    }
}
