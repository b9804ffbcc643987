import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.TimeoutException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.namesrv.NamesrvStartup;
import org.apache.rocketmq.proxy.ProxyStartup;
import org.apache.rocketmq.remoting.protocol.subscription.CustomizedRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicyType;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Name server, broker and proxy in one virtual machine, which says when they are ready and makes topics and groups.
 *
 * <p>Arguments: the addresses of name server and broker, then the configuration files of name server, broker and
 * proxy.
 * Standard output carries answers alone, one line each: {@code READY} once, then {@code ok} or {@code error WHY} per
 * line of standard input:
 * <pre>
 *   topic NAME NORMAL|FIFO|DELAY|TRANSACTION QUEUES
 *   group NAME RETRIES [orderly]
 * </pre>
 * The end of standard input ends the machine at once.
 *
 * <p>An open port is not readiness: a topic made before the broker's first registration stays without a route for
 * half a minute. So the broker is waited for before the first topic, and every topic's route before its answer.
 */
public final class RocketMqLauncher {
    private static final long ROUTE_PATIENCE_MILLISECONDS = 60_000;
    private static final long BETWEEN_QUESTIONS_MILLISECONDS = 20;

    private final DefaultMQAdminExt admin = new DefaultMQAdminExt();
    private final String broker;

    private RocketMqLauncher(String nameServer, String broker) throws Exception {
        this.broker = broker;
        admin.setNamesrvAddr(nameServer);
        admin.setInstanceName("spanprof-fixture");
        admin.start();
        waitForRegistration();
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // What RocketMQ itself has to say goes with its errors.
        System.setOut(System.err);
        NamesrvStartup.main0(new String[] {"-c", arguments[2]});
        ProxyStartup.main(new String[] {
            "-pm", "local", "-n", arguments[0], "-bc", arguments[3], "-pc", arguments[4],
        });
        RocketMqLauncher launcher = new RocketMqLauncher(arguments[0], arguments[1]);
        answers.println("READY");
        launcher.answer(answers);
        Runtime.getRuntime().halt(0);
    }

    private void answer(PrintStream answers) throws Exception {
        BufferedReader questions =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            try {
                obey(line.trim().split(" +"));
                answers.println("ok");
            } catch (Exception refusal) {
                answers.println("error " + refusal.toString().replaceAll("\\s+", " "));
            }
        }
    }

    private void obey(String[] words) throws Exception {
        if (words[0].equals("topic") && words.length == 4) {
            makeTopic(words[1], words[2], Integer.parseInt(words[3]));
        } else if (words[0].equals("group") && (words.length == 3 || words.length == 4)) {
            makeGroup(words[1], Integer.parseInt(words[2]), words.length == 4 && words[3].equals("orderly"));
        } else {
            throw new IllegalArgumentException("not a command: " + String.join(" ", words));
        }
    }

    private void makeTopic(String name, String kind, int queues) throws Exception {
        TopicConfig topic = new TopicConfig(name);
        topic.setReadQueueNums(queues);
        topic.setWriteQueueNums(queues);
        topic.getAttributes().put("+message.type", kind);
        admin.createAndUpdateTopicConfig(broker, topic);
        waitForRoute(name);
    }

    /**
     * A message that failed comes again after a second, whatever number of times it failed.
     *
     * <p>The topic of a group's retries would come into being by the first of them, and its consumers look for new
     * routes every half minute. So it is made with the group.
     */
    private void makeGroup(String name, int retries, boolean orderly) throws Exception {
        long[] waits = new long[18];
        Arrays.fill(waits, 1_000);
        GroupRetryPolicy retry = new GroupRetryPolicy();
        retry.setType(GroupRetryPolicyType.CUSTOMIZED);
        retry.setCustomizedRetryPolicy(new CustomizedRetryPolicy(waits));
        SubscriptionGroupConfig group = new SubscriptionGroupConfig();
        group.setGroupName(name);
        group.setRetryMaxTimes(retries);
        group.setConsumeMessageOrderly(orderly);
        group.setGroupRetryPolicy(retry);
        admin.createAndUpdateSubscriptionGroupConfig(broker, group);
        makeTopic(MixAll.getRetryTopic(name), "NORMAL", 1);
    }

    /**
     * Asks the broker to register until the name server knows it; the program that started this one bounds the wait.
     *
     * <p>Its first registration by itself is lost where the connection to the name server is not there yet, and the
     * next one is ten seconds later. A change of its permissions, here to what they are, makes it register at once.
     */
    private void waitForRegistration() throws Exception {
        Properties unchanged = new Properties();
        unchanged.setProperty("brokerPermission", "6");
        while (true) {
            admin.updateBrokerConfig(broker, unchanged);
            var brokers = admin.examineBrokerClusterInfo().getBrokerAddrTable();
            if (brokers != null && !brokers.isEmpty()) {
                return;
            }
            Thread.sleep(BETWEEN_QUESTIONS_MILLISECONDS);
        }
    }

    private void waitForRoute(String topic) throws Exception {
        long end = System.nanoTime() + ROUTE_PATIENCE_MILLISECONDS * 1_000_000;
        while (System.nanoTime() < end) {
            try {
                if (!admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty()) {
                    return;
                }
            } catch (MQClientException notYet) {
                // The name server has not heard of it.
            }
            Thread.sleep(BETWEEN_QUESTIONS_MILLISECONDS);
        }
        throw new TimeoutException("the name server has no route to " + topic);
    }
}
