import java.time.Duration;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;

/**
 * A push consumer over RocketMQ's gRPC, which knows nothing of traces.
 *
 * <p>Arguments: the proxy's address, a topic, and a group. It runs until it is killed.
 */
public final class GrpcPushConsumer {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private GrpcPushConsumer() {}

    public static void main(String[] arguments) throws Exception {
        ClientConfiguration configuration = ClientConfiguration.newBuilder()
            .setEndpoints(arguments[0])
            .enableSsl(false)
            .setRequestTimeout(PATIENCE)
            .build();
        // Its threads keep the machine running.
        ClientServiceProvider.loadService().newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(arguments[2])
            .setSubscriptionExpressions(Map.of(arguments[1], new FilterExpression("*")))
            .setMessageListener(message -> ConsumeResult.SUCCESS)
            .build();
    }
}
