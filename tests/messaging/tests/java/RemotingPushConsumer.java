import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;

/**
 * A push consumer over RocketMQ's remoting protocol, which knows nothing of traces.
 *
 * <p>Arguments: the name server's address, a topic, and a group. It runs until it is killed.
 */
public final class RemotingPushConsumer {
    private RemotingPushConsumer() {}

    public static void main(String[] arguments) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(arguments[2]);
        consumer.setNamesrvAddr(arguments[0]);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // The first push consumer of a fresh broker may get nothing before its second heartbeat: by default after 30 s.
        consumer.setHeartbeatBrokerInterval(2_000);
        consumer.subscribe(arguments[1], "*");
        consumer.registerMessageListener(
            (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        // Its threads keep the machine running.
        consumer.start();
    }
}
